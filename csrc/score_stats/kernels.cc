#include "score_stats/kernels.h"

#include <cstring>

namespace ev3x::score_stats {
namespace EV3X_ISA {
namespace {

constexpr int64_t kBlock = 4096;         // 2 x 16 KiB of operands stay in L1
constexpr int64_t kShiftSamples = 128;   // (mean - shift)^2 <= 31 * variance within a block: 5 bits at most
constexpr int64_t kWeightedBlock = 2048; // is read twice, with its weights

float widen(float x) { return x; }
float widen(uint8_t x) { return x; }
float widen(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// In double: equal values give exactly that value, hence a variance of exactly zero.
template <class T>
float shift(const T* x, int64_t n) {
  const int64_t m = smaller(n, kShiftSamples);
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < m; ++i) sum += widen(x[i]);
  return static_cast<float>(sum / static_cast<double>(m));
}

// Both halves at once: twice as many sums under way as one stream would have.
template <class T>
Pair plain_block(const T* __restrict x, const T* __restrict y, int64_t n) {
  const float cx = shift(x, n), cd = cx - shift(y, n);
  const int64_t half = n / 2;
  const T *__restrict v = x + half, *__restrict u = y + half;
  float sx = 0, qx = 0, sd = 0, qd = 0, sv = 0, qv = 0, se = 0, qe = 0;
#pragma omp simd reduction(+ : sx, qx, sd, qd, sv, qv, se, qe)
  for (int64_t i = 0; i < half; ++i) {
    const float a = widen(x[i]) - cx, b = (widen(x[i]) - widen(y[i])) - cd;
    const float c = widen(v[i]) - cx, d = (widen(v[i]) - widen(u[i])) - cd;
    sx += a;
    qx += a * a;
    sd += b;
    qd += b * b;
    sv += c;
    qv += c * c;
    se += d;
    qe += d * d;
  }
  if (n % 2) {
    const float a = widen(x[n - 1]) - cx, b = (widen(x[n - 1]) - widen(y[n - 1])) - cd;
    sx += a;
    qx += a * a;
    sd += b;
    qd += b * b;
  }
  const auto weight = static_cast<double>(n);
  return {unshift(weight, cx, static_cast<double>(sx) + sv, static_cast<double>(qx) + qv),
          unshift(weight, cd, static_cast<double>(sd) + se, static_cast<double>(qd) + qe)};
}

template <class T>
Pair plain(const T* x, const T* y, int64_t n) {
  Pair sum;
  for (int64_t i = 0; i < n; i += kBlock) sum = merge(sum, plain_block(x + i, y + i, smaller(kBlock, n - i)));
  return sum;
}

// The shift is the block's weighted mean, whatever the weights: no few examples could stand for it. The compare keeps
// what is not finite out where the weight is 0.
template <class T>
Pair weighted_block(const T* __restrict x, const T* __restrict y, const float* __restrict w, int64_t n) {
  float weight = 0, mx = 0, md = 0;
#pragma omp simd reduction(+ : weight, mx, md)
  for (int64_t i = 0; i < n; ++i) {
    const float a = widen(x[i]), b = a - widen(y[i]);
    weight += w[i];
    mx += w[i] > 0 ? w[i] * a : 0;
    md += w[i] > 0 ? w[i] * b : 0;
  }
  if (weight == 0) return {};
  const float cx = mx / weight, cd = md / weight;
  float sx = 0, qx = 0, sd = 0, qd = 0;
#pragma omp simd reduction(+ : sx, qx, sd, qd)
  for (int64_t i = 0; i < n; ++i) {
    const float a = w[i] > 0 ? widen(x[i]) - cx : 0, b = w[i] > 0 ? (widen(x[i]) - widen(y[i])) - cd : 0;
    const float wa = w[i] * a, wb = w[i] * b;
    sx += wa;
    qx += wa * a;
    sd += wb;
    qd += wb * b;
  }
  return {unshift(weight, cx, sx, qx), unshift(weight, cd, sd, qd)};
}

template <class T>
Pair weighted(const T* x, const T* y, const float* w, int64_t n) {
  Pair sum;
  for (int64_t i = 0; i < n; i += kWeightedBlock)
    sum = merge(sum, weighted_block(x + i, y + i, w + i, smaller(kWeightedBlock, n - i)));
  return sum;
}

// Counts, hence exact: a byte lane holds 255 additions of 0 or 1.
Pair plain_bool(const uint8_t* __restrict x, const uint8_t* __restrict y, int64_t n) {
  typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes)));
  int64_t xs = 0, ys = 0, boths = 0, i = 0;
  const auto total = [](const Bytes& lanes) {
    int32_t sum = 0;
    for (int lane = 0; lane < kVectorBytes; ++lane) sum += lanes[lane];
    return sum;
  };
  while (n - i >= kVectorBytes) {
    const int64_t rounds = smaller(255, (n - i) / kVectorBytes);
    Bytes sx{}, sy{}, sb{};
    for (int64_t r = 0; r < rounds; ++r, i += kVectorBytes) {
      Bytes a, b;
      std::memcpy(&a, x + i, kVectorBytes);
      std::memcpy(&b, y + i, kVectorBytes);
      sx += a;
      sy += b;
      sb += a & b;
    }
    xs += total(sx);
    ys += total(sy);
    boths += total(sb);
  }
  for (; i < n; ++i) {
    xs += x[i];
    ys += y[i];
    boths += x[i] & y[i];
  }
  return count(n, xs, ys, boths);
}

Weight weigh(const float* w, int64_t n) {
  double sum = 0, square = 0;
  int64_t examples = 0;
#pragma omp simd reduction(+ : sum, square, examples)
  for (int64_t i = 0; i < n; ++i) {
    const double wide = w[i];
    sum += wide;
    square += wide * wide;
    examples += w[i] > 0;
  }
  return {sum, square, examples};
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{{plain<float>, weighted<float>},
                     {plain<BFloat16>, weighted<BFloat16>},
                     {plain_bool, weighted<uint8_t>},
                     weigh};

}  // namespace EV3X_ISA
}  // namespace ev3x::score_stats
