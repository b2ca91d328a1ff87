#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_bootstrap_poisson(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* ev3x_bootstrap_multinomial(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {
namespace {

uint32_t column(uint32_t a, uint32_t b, uint32_t purpose, uint32_t index) { return mixed(mixed(index ^ b ^ purpose) + a); }

uint32_t word(uint32_t a, uint32_t b, uint32_t resample, uint32_t key) {
  uint32_t x = key ^ mixed(mixed(resample ^ a) + b);
  x = (x ^ (x >> 16)) * 0x21f0aaadu + mixed(mixed(resample ^ b ^ 0x85ebca6bu) + a);
  x = (x ^ (x >> 15)) * 0xd35a2d97u;
  return x ^ (x >> 15);
}

// How many of the distribution function's values, rounded to `bits`, are at or below a random number of these bits.
std::vector<uint64_t> distribution(double rate, int number, int bits) {
  double below = 0, term = std::exp(-rate);
  std::vector<uint64_t> bars;
  for (int j = 0; j < number; ++j) {
    below += term;
    term *= rate / (j + 1);
    bars.push_back(static_cast<uint64_t>(std::min(std::nearbyint(std::ldexp(below, bits)), std::ldexp(1.0, bits))));
  }
  return bars;
}

int64_t count(const std::vector<uint64_t>& bars, uint32_t random, int bits) {
  const uint64_t unsigned_order = random ^ (1u << (bits - 1));  // handlers compare signed numbers
  int64_t above = 0;
  for (const uint64_t bar : bars) above += (unsigned_order & ((uint64_t{1} << bits) - 1)) >= bar;
  return above;
}

void fuzz(Input& input, bool exact) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge, medium = input.size == Size::kMedium;
  const int64_t n = large ? random.between(1500, 9000) : length(random, medium ? 2500 : 90);
  const int64_t k = large ? random.between(1, 9) : random.below(6), batch = random.below(3);
  const int64_t resamples = large ? random.between(40, 150) : random.below(medium ? 12 : 8);
  input.shape({batch, k, n, resamples});

  Array<float> scores(random, batch * k * n);
  Array<uint32_t> state(random, batch * 3);
  Array<uint8_t> mask(random, batch * n);
  Floats value(random, any_kind(random));
  for (int64_t i = 0; i < scores.size(); ++i) scores[i] = value();
  const auto offset = static_cast<uint32_t>(exact || random.chance(0.5) ? 0 : random.below(5000));
  for (int64_t i = 0; i < state.size(); ++i) state[i] = i % 3 == 2 ? offset : static_cast<uint32_t>(random.bits());
  const bool masked = random.chance(0.5);
  const double counted = random.one_of({0.0, 0.1, 0.9, 1.0});
  for (int64_t i = 0; i < mask.size(); ++i) mask[i] = !masked || random.chance(counted);
  const bool as_means = exact || random.chance(0.5);

  const double rate = n ? std::max(0.0, 1 - 8 / std::sqrt(static_cast<double>(n))) : 0;
  const std::vector<uint64_t> bars = exact ? distribution(rate, 12, 32) : distribution(1, 8, 16);
  std::vector<int32_t> thresholds;
  for (const uint64_t bar : bars) thresholds.push_back(static_cast<int32_t>(static_cast<int64_t>(bar) - (int64_t{1} << 31) - 1));

  std::vector<int64_t> weights(batch * resamples * n), totals(batch * resamples);
  for (int64_t b = 0; b < batch; ++b) {
    const uint32_t s = state[3 * b], t = state[3 * b + 1];
    std::vector<int64_t> places;
    for (int64_t i = 0; i < n; ++i)
      if (mask[b * n + i]) places.push_back(i);
    const auto number = static_cast<int64_t>(places.size());
    for (int64_t r = 0; r < resamples; ++r) {
      int64_t* w = weights.data() + (b * resamples + r) * n;
      int64_t& total = totals[b * resamples + r];
      for (const int64_t i : places) {
        if (exact) {
          w[i] = count(bars, word(s, t, static_cast<uint32_t>(r), column(s, t, 0x7f4a7c15u, static_cast<uint32_t>(i))), 32);
        } else {
          const auto at = static_cast<uint32_t>(i) + offset;
          const uint32_t key = column(s, t, 0x9e3779b9u, at / 32 * 16 + at % 16);
          const uint32_t random_word = word(s, t, static_cast<uint32_t>(r), key);
          w[i] = count(bars, at % 32 < 16 ? random_word & 0xffff : random_word >> 16, 16);
        }
        total += w[i];
      }
      if (!exact) continue;
      if (total > number) {
        std::fill(w, w + n, 0);
        total = 0;
      }
      for (uint32_t d = 0; total < number; ++d, ++total) {
        const uint64_t draw = word(s, t, static_cast<uint32_t>(r), column(s, t, 0xf39cc060u, d));
        ++w[places[draw * static_cast<uint64_t>(number) >> 32]];
      }
    }
  }

  Array<float> centres(random, batch * k), sums(random, batch * resamples * k), drawn(random, batch * resamples);
  Call call;
  call.in(scores, {batch, k, n}).in(state, {batch, 3});
  if (masked) call.in(mask, {batch, n});
  call.out(centres, {batch, k}).out(sums, {batch, resamples, k}).out(drawn, {batch, resamples});
  call.attribute("as_means", static_cast<uint8_t>(as_means));
  if (exact) call.attribute("thresholds", thresholds);
  const auto check = [&] {
    for (int64_t i = 0; i < drawn.size(); ++i) input.equal("weights", i, drawn[i], static_cast<float>(totals[i]));
    for (int64_t row = 0; row < batch * k; ++row) {
      const int64_t b = row / k;
      const float centre = centres[row];
      double size = 0, sum = 0, number = 0;
      bool finite = true;
      for (int64_t i = 0; i < n; ++i) {
        if (!mask[b * n + i]) continue;
        const double x = scores[row * n + i];
        finite &= std::isfinite(x);
        size = std::max(size, std::fabs(x));
        sum += x;
        number += 1;
      }
      if (!finite || number == 0) {
        input.expect(std::isnan(centre), "centre is a number", row);
      } else {
        input.near("centre", row, centre, sum / number, 1e-6 * size + 1e-37);
      }
      for (int64_t r = 0; r < resamples; ++r) {
        const int64_t at = (b * resamples + r) * k + row % k;
        const auto total = static_cast<double>(totals[b * resamples + r]);
        if (!as_means && number == 0) {
          input.equal("sum of none", at, sums[at], 0.0f);
          continue;
        }
        if (!finite || number == 0 || (as_means && total == 0)) {
          input.expect(std::isnan(sums[at]), "a number from none", at);
          continue;
        }
        if (!as_means && size > 1e37) continue;  // sums may overflow
        double want = 0, off = 0;
        for (int64_t i = 0; i < n; ++i) {
          const auto w = static_cast<double>(weights[(b * resamples + r) * n + i]);
          if (w == 0) continue;
          const double d = static_cast<double>(scores[row * n + i]) - centre;
          want += w * d;
          off += w * std::fabs(d);
        }
        if (as_means) want = centre + want / total, off /= total;
        input.near("sum", at, sums[at], want, 4e-6 * off + 1e-7 * std::fabs(want) + 1e-36);
      }
    }
  };
  input.run(call, exact ? ev3x_bootstrap_multinomial : ev3x_bootstrap_poisson, {bits(centres), bits(sums), bits(drawn)},
            check);
}

}  // namespace

void fuzz_bootstrap_poisson(Input& input) { fuzz(input, false); }
void fuzz_bootstrap_multinomial(Input& input) { fuzz(input, true); }

}  // namespace ev3x::fuzz
