#include <algorithm>

#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_lexicase(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float flushed(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f : x; }

float median(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return flushed(flushed(0.5f * values[(n - 1) / 2]) + flushed(0.5f * values[n / 2]));
}

float deviation(const std::vector<float>& scores) {
  std::vector<float> finite;
  for (const float x : scores)
    if (std::isfinite(x)) finite.push_back(x);
  if (finite.empty()) return 0;
  const float centre = median(finite);
  for (float& x : finite) x = flushed(std::fabs(x - centre));
  return median(finite);
}

}  // namespace

void fuzz_lexicase(Input& input) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge, medium = input.size == Size::kMedium;
  const int64_t k = large ? random.between(200, 700) : length(random, medium ? 150 : 20);
  const int64_t cases = large ? random.between(60, 200) : length(random, medium ? 40 : 8);
  const int64_t parents = large ? random.between(300, 900) : length(random, medium ? 80 : 10);
  const int64_t batch = random.below(3);
  input.shape({batch, k, cases, parents});

  Array<float> scores(random, batch * k * cases);
  Array<uint32_t> seeds(random, batch * 2);
  Array<uint8_t> eligible(random, batch * k);
  Floats value(random, any_kind(random));
  for (int64_t i = 0; i < scores.size(); ++i) scores[i] = value();
  for (int64_t i = 0; i < seeds.size(); ++i) seeds[i] = static_cast<uint32_t>(random.bits());
  const double chance = random.one_of({0.0, 0.1, 0.8, 1.0, 1.0});
  for (int64_t i = 0; i < eligible.size(); ++i) eligible[i] = random.chance(chance);
  const auto epsilon = random.one_of({-1.0f, -1.0f, 0.0f, 0.5f, 1e-38f, 1e30f});

  // As the definition has it: everybody, case after case.
  std::vector<int32_t> want(batch * parents);
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<std::vector<float>> columns(cases);
    std::vector<int32_t> allowed;
    for (int64_t i = 0; i < k; ++i)
      if (eligible[b * k + i]) allowed.push_back(static_cast<int32_t>(i));
    std::vector<float> margins;
    for (int64_t c = 0; c < cases; ++c) {
      for (const int32_t i : allowed) {
        const float x = scores[(b * k + i) * cases + c];
        columns[c].push_back(std::isnan(x) ? -kInfinity : flushed(x));
      }
      margins.push_back(epsilon < 0 ? deviation(columns[c]) : flushed(epsilon));
    }
    const uint32_t s = seeds[2 * b], t = seeds[2 * b + 1];
    for (int64_t p = 0; p < parents; ++p) {
      const uint32_t stream = mixed(mixed(static_cast<uint32_t>(p) ^ s) + t);
      const auto draw = [&](int64_t i) {
        return mixed(stream ^ mixed(mixed(static_cast<uint32_t>(i) ^ t ^ 0x9e3779b9u) + s));
      };
      std::vector<int64_t> order(cases);
      for (int64_t c = 0; c < cases; ++c) order[c] = c;
      std::vector<size_t> pool;  // places in `allowed`
      for (size_t i = 0; i < allowed.size(); ++i) pool.push_back(i);
      for (int64_t i = 0; i < cases && pool.size() > 1; ++i) {
        std::swap(order[i], order[i + draw(i) % static_cast<uint32_t>(cases - i)]);
        const std::vector<float>& column = columns[order[i]];
        float best = -kInfinity;
        for (const size_t at : pool) best = std::max(best, column[at]);
        const float bar = std::isinf(best) ? best : flushed(best - margins[order[i]]);
        std::erase_if(pool, [&](size_t at) { return !(column[at] >= bar); });
      }
      const uint32_t last = draw(cases);
      want[b * parents + p] = pool.empty() ? -1 : allowed[pool[last % static_cast<uint32_t>(pool.size())]];
    }
  }

  Array<int32_t> winners(random, batch * parents);
  Call call;
  call.in(scores, {batch, k, cases}).in(seeds, {batch, 2}).in(eligible, {batch, k}).out(winners, {batch, parents});
  call.attribute("epsilon", epsilon < 0 ? epsilon : flushed(epsilon));
  input.run(call, ev3x_lexicase, {bits(winners)}, [&] {
    for (int64_t i = 0; i < winners.size(); ++i) input.equal("winner", i, winners[i], want[i]);
  });
}

}  // namespace ev3x::fuzz
