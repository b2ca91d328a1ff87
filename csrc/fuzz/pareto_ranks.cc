#include <algorithm>

#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_pareto_ranks(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {

void fuzz_pareto_ranks(Input& input) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge;
  const int64_t k = large ? random.between(500, 2500) : length(random, input.size == Size::kMedium ? 200 : 24);
  const int64_t m = random.between(1, 5), batch = large ? random.between(1, 2) : random.below(3);
  input.shape({batch, k, m});

  Array<float> objectives(random, batch * k * m);
  Floats value(random, any_kind(random));
  for (int64_t i = 0; i < objectives.size(); ++i) objectives[i] = value();
  if (k > 1 && batch && random.chance(0.2))  // equal rows
    for (int64_t i = 0; i < k / 2; ++i) std::copy_n(&objectives[0], m, &objectives[random.below(k) * m]);

  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto flushed = [](float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f : x; };
  std::vector<int32_t> ranks(batch * k, static_cast<int32_t>(k));
  std::vector<double> distances(batch * k);
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<float> x(k * m);
    for (int64_t i = 0; i < k * m; ++i) x[i] = flushed(objectives[b * k * m + i]);
    std::vector<int64_t> remaining;
    for (int64_t i = 0; i < k; ++i)
      if (std::none_of(&x[i * m], &x[i * m] + m, [](float v) { return std::isnan(v); })) remaining.push_back(i);
    const auto dominates = [&](int64_t i, int64_t j) {
      bool better = false;
      for (int64_t c = 0; c < m; ++c) {
        if (x[i * m + c] < x[j * m + c]) return false;
        better |= x[i * m + c] > x[j * m + c];
      }
      return better;
    };
    // Dominators come before in the order of sums of ranks, say; here, of the rows themselves: peeled by longest chain.
    std::sort(remaining.begin(), remaining.end(), [&](int64_t i, int64_t j) {
      return std::lexicographical_compare(&x[j * m], &x[j * m] + m, &x[i * m], &x[i * m] + m);
    });
    int32_t fronts = 0;
    for (size_t i = 0; i < remaining.size(); ++i) {
      int32_t rank = 0;
      for (size_t j = 0; j < i; ++j) {
        const int32_t other = ranks[b * k + remaining[j]];
        if (other >= rank && dominates(remaining[j], remaining[i])) rank = other + 1;
      }
      ranks[b * k + remaining[i]] = rank;
      fronts = std::max(fronts, rank + 1);
    }
    std::sort(remaining.begin(), remaining.end());
    std::vector<std::vector<int64_t>> members(fronts);
    for (const int64_t i : remaining) members[ranks[b * k + i]].push_back(i);
    for (const std::vector<int64_t>& front : members) {
      for (int64_t c = 0; c < m; ++c) {
        std::vector<int64_t> line = front;
        std::stable_sort(line.begin(), line.end(), [&](int64_t i, int64_t j) { return x[i * m + c] < x[j * m + c]; });
        const float range = flushed(x[line.back() * m + c] - x[line.front() * m + c]);
        for (size_t i = 0; i < line.size(); ++i) {
          double& distance = distances[b * k + line[i]];
          if (i == 0 || i + 1 == line.size())
            distance = kInfinity;
          else if (range > 0 && range < kInfinity)
            distance += static_cast<double>(flushed(x[line[i + 1] * m + c] - x[line[i - 1] * m + c])) / range;
        }
      }
    }
  }

  Array<int32_t> rank(random, batch * k);
  Array<float> crowding(random, batch * k);
  Call call;
  call.in(objectives, {batch, k, m}).out(rank, {batch, k}).out(crowding, {batch, k});
  input.run(call, ev3x_pareto_ranks, {bits(rank), bits(crowding)}, [&] {
    for (int64_t i = 0; i < batch * k; ++i) {
      input.equal("rank", i, rank[i], ranks[i]);
      input.near("crowding", i, crowding[i], distances[i], 1e-6 * (1 + distances[i]));
    }
  });
}

}  // namespace ev3x::fuzz
