#include <algorithm>

#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_quantiles(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {

void fuzz_quantiles(Input& input) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge;
  const int64_t n = large ? random.between(5000, 40'000) : length(random, input.size == Size::kMedium ? 3000 : 70);
  const int64_t k = large ? random.between(2, 9) : random.below(4), batch = random.below(3), number = random.below(7);
  input.shape({batch, k, n, number});

  Array<float> scores(random, batch * k * n);
  Array<uint8_t> mask(random, batch * n);
  Floats value(random, any_kind(random));
  for (int64_t i = 0; i < scores.size(); ++i) scores[i] = value();
  const bool masked = random.chance(0.5);
  const double counted = random.one_of({0.0, 0.1, 0.9, 1.0});
  for (int64_t i = 0; i < mask.size(); ++i) mask[i] = !masked || random.chance(counted);
  std::vector<double> q;
  for (int64_t j = 0; j < number; ++j) q.push_back(random.one_of({0.0, 0.25, 0.5, 1.0, random.uniform(), random.uniform()}));

  Array<double> want(random, batch * k * number), tolerance(random, batch * k * number);
  for (int64_t row = 0; row < batch * k; ++row) {
    std::vector<float> sorted;
    bool nan = false;
    for (int64_t i = 0; i < n; ++i) {
      if (!mask[row / k * n + i]) continue;
      const float x = scores[row * n + i];
      nan |= std::isnan(x);
      sorted.push_back(std::fabs(x) < std::numeric_limits<float>::min() ? 0 : x);
    }
    if (!nan) std::sort(sorted.begin(), sorted.end());
    for (int64_t j = 0; j < number; ++j) {
      double& to = want[row * number + j] = std::numeric_limits<double>::quiet_NaN();
      tolerance[row * number + j] = 0;
      if (nan || sorted.empty()) continue;
      const double at = q[j] * static_cast<double>(sorted.size() - 1), floor = std::floor(at), share = at - floor;
      const double a = sorted[static_cast<size_t>(floor)];
      const double b = sorted[std::min(static_cast<size_t>(floor) + 1, sorted.size() - 1)];
      to = share >= 0.5 ? b - (b - a) * (1 - share) : a + (b - a) * share;
      tolerance[row * number + j] = 1e-7 * std::max(std::fabs(a), std::fabs(b)) + 1e-37;
    }
  }

  Array<float> found(random, batch * k * number);
  Call call;
  call.in(scores, {batch, k, n});
  if (masked) call.in(mask, {batch, n});
  call.out(found, {batch, k, number}).attribute("q", q);
  input.run(call, ev3x_quantiles, {bits(found)}, [&] {
    for (int64_t i = 0; i < found.size(); ++i) input.near("quantile", i, found[i], want[i], tolerance[i]);
  });
}

}  // namespace ev3x::fuzz
