#include "bootstrap_means/kernels.h"

#include <cmath>
#include <cstring>

#include "cpu/simd.h"

namespace ev3x::bootstrap_means {
namespace EV3X_ISA {
namespace {

using Ints = Vector<int32_t>;
using Words = Vector<uint32_t>;
using Halves = Vector<int16_t>;

// In double: equal values give exactly that value, hence centred zeros.
Centre mean(const float* x, const uint8_t* mask, int64_t n) {
  double sum = 0;
  int64_t count = n, large = 0;
  if (mask) {
    count = 0;
#pragma omp simd reduction(+ : sum, count, large)
    for (int64_t i = 0; i < n; ++i) {
      const float counted = mask[i] ? x[i] : 0.0f;
      sum += counted;
      count += mask[i];
      large += std::fabs(counted) > kLarge;
    }
  } else {
#pragma omp simd reduction(+ : sum, large)
    for (int64_t i = 0; i < n; ++i) {
      sum += x[i];
      large += std::fabs(x[i]) > kLarge;
    }
  }
  const auto value = static_cast<float>(sum / static_cast<double>(count));
  return {value - value == 0 ? value : NAN, large ? kSmaller : 1.0f};
}

// Scaling by a power of two is exact, whether or not it is one operation with the difference.
void centre(const float* __restrict x, const uint8_t* mask, Centre c, int64_t n, float* __restrict out) {
  const float scale = c.scale, shift = scale * c.mean;
  if (mask)
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = mask[i] ? scale * x[i] - shift : 0.0f;
  else
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = scale * x[i] - shift;
}

void columns(Seeds seeds, uint32_t purpose, uint32_t from, int64_t n, uint32_t* __restrict keys) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) keys[i] = column(seeds, purpose, from + static_cast<uint32_t>(i));
}

template <bool kMasked>
int64_t halves_of(Resample r, const uint32_t* keys, const uint32_t* counted, int64_t n, float* weights) {
  constexpr int64_t kHalf = kGroup / 2;
  Words sum{};
  for (int64_t i = 0; i < n; i += kGroup) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kHalf; v += kFloats) {
      const Words x = word(r, load_as<Words>(keys + i / 2 + v));
      const auto half = reinterpret_cast<Halves>(x);
      Halves count{};
#pragma GCC unroll 8
      for (int j = 0; j < kThresholds; ++j) {
        if constexpr (kFloats == 16)
          count = half > kPoisson[j] ? count + int16_t{1} : count;  // AVX-512 compares into masks
        else
          count -= half > kPoisson[j];
      }
      const auto pairs = reinterpret_cast<Words>(count);
      Words low = pairs & 0xffffu, high = pairs >> 16;
      if (kMasked) {
        low &= load_as<Words>(counted + i + v);
        high &= load_as<Words>(counted + i + kHalf + v);
      }
      sum += low + high;
      const Floats a = __builtin_convertvector(reinterpret_cast<Ints>(low), Floats);
      const Floats b = __builtin_convertvector(reinterpret_cast<Ints>(high), Floats);
      std::memcpy(weights + i + v, &a, sizeof a);
      std::memcpy(weights + i + kHalf + v, &b, sizeof b);
    }
  }
  int64_t all = 0;
  for (int lane = 0; lane < kFloats; ++lane) all += sum[lane];
  return all;
}

int64_t halves(Resample r, const uint32_t* keys, const uint32_t* counted, int64_t n, float* weights) {
  return counted ? halves_of<true>(r, keys, counted, n, weights) : halves_of<false>(r, keys, nullptr, n, weights);
}

int64_t counts(Resample r, const uint32_t* __restrict keys, const int32_t* thresholds, const uint8_t* mask, int64_t n,
               uint8_t* __restrict counts) {
  int32_t bar[kExactThresholds], sum = 0;
  std::memcpy(bar, thresholds, sizeof bar);
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<int32_t>(word(r, keys[i]));
    int32_t count = 0;
#pragma GCC unroll 12
    for (int j = 0; j < kExactThresholds; ++j) count += x > bar[j];
    sum += count;
    counts[i] = static_cast<uint8_t>(count);
  }
  if (mask) {
    sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      counts[i] = mask[i] ? counts[i] : 0;
      sum += counts[i];
    }
  }
  return sum;
}

void draw(Seeds seeds, Resample r, const int32_t* places, int64_t n, int64_t draws, uint8_t* counts) {
  constexpr int64_t kOnce = 64;
  uint32_t at[kOnce];
  for (int64_t d = 0; d < draws; d += kOnce) {
#pragma omp simd
    for (int64_t i = 0; i < kOnce; ++i)
      at[i] = below(word(r, column(seeds, kOfDraws, static_cast<uint32_t>(d + i))), static_cast<uint32_t>(n));
    const int64_t size = draws - d < kOnce ? draws - d : kOnce;
    for (int64_t i = 0; i < size; ++i) ++counts[places ? places[at[i]] : at[i]];
  }
}

void widen(const uint8_t* __restrict counts, int64_t n, float* __restrict weights) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) weights[i] = counts[i];
}

// In float: of centred values, over one block.
template <int kColumns>
void tile(const float* weights, const float* centred, int64_t n, int64_t stride, double* sums) {
  Floats sum[kTile][kColumns]{};
  for (int64_t i = 0; i < n; i += kFloats) {
    Floats w[kTile];
#pragma GCC unroll 4
    for (int t = 0; t < kTile; ++t) w[t] = load_as<Floats>(weights + t * kBlock + i);
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      const Floats x = load_as<Floats>(centred + c * kBlock + i);
#pragma GCC unroll 4
      for (int t = 0; t < kTile; ++t) sum[t][c] += w[t] * x;
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < kTile; ++t)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[t * stride + c] += total(sum[t][c]);
}

void multiply(const float* weights, const float* centred, int64_t n, int64_t candidates, double* sums) {
  constexpr int kWide = kFloats == 16 ? 4 : 2;  // of 32 registers, or of 16
  int64_t k = 0;
  for (; k + kWide <= candidates; k += kWide) tile<kWide>(weights, centred + k * kBlock, n, candidates, sums + k);
  for (; k < candidates; ++k) tile<1>(weights, centred + k * kBlock, n, candidates, sums + k);
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{mean, centre, columns, halves, counts, draw, widen, multiply};

}  // namespace EV3X_ISA
}  // namespace ev3x::bootstrap_means
