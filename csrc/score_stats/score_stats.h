// The arithmetic of score_stats, free of XLA and of threads.
//
// Rows are cut into blocks of kBlock examples. A block is summed in float around its own shift (so that a mean of
// 1e4 with a deviation of 1e-2 loses nothing), folded to double, and merged into the row by Chan, Golub and
// LeVeque's update (1983, eq. 2.1). Blocks depend on the shape alone, so the bits do not depend on the threads.
#ifndef EV3X_SCORE_STATS_SCORE_STATS_H_
#define EV3X_SCORE_STATS_SCORE_STATS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace ev3x::score_stats {

inline constexpr int64_t kBlock = 1024;       // 3 x 4 KiB of operands stay in L1
inline constexpr int64_t kShiftSamples = 32;  // (mean - shift)^2 <= 31 * variance within a block: 5 bits at most
inline constexpr int64_t kBoolBlock = 255 * 8;  // a byte lane holds at most 255 additions of 0 or 1
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Weighted mean and sum of squared deviations.
struct Moments {
  double weight = 0, mean = 0, m2 = 0;
};

inline Moments merge(const Moments& a, const Moments& b) {
  if (a.weight == 0) return b;
  if (b.weight == 0) return a;
  const double weight = a.weight + b.weight, delta = b.mean - a.mean, share = b.weight / weight;
  return {weight, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.weight * share};
}

// Moments from the sums of w*(x - shift) and w*(x - shift)^2.
inline Moments unshift(double weight, double shift, double sum, double square) {
  if (weight == 0) return {};
  const double excess = sum / weight;
  return {weight, shift + excess, std::fmax(square - sum * excess, 0.0)};
}

// A row's own moments and those of its difference to the reference, on the same examples.
struct Pair {
  Moments own, difference;
};

inline Pair merge(const Pair& a, const Pair& b) {
  return {merge(a.own, b.own), merge(a.difference, b.difference)};
}

// Sum of weights and of their squares: one column's, shared by all candidates.
struct Weight {
  double sum = 0, square = 0;
};

inline Weight weigh(const float* w, int64_t n) {
  double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum, square)
  for (int64_t i = 0; i < n; ++i) {
    sum += w[i];
    square += static_cast<double>(w[i]) * w[i];
  }
  return {sum, square};
}

// In double: equal values give exactly that value, hence a variance of exactly zero.
inline float plain_shift(const float* x, int64_t n) {
  const int64_t m = std::min(n, kShiftSamples);
  double sum = 0;
  for (int64_t i = 0; i < m; ++i) sum += x[i];
  return static_cast<float>(sum / m);
}

// x[0:n] and x - y without weights, n <= kBlock.
inline Pair plain_block(const float* __restrict x, const float* __restrict y, int64_t n) {
  const float cx = plain_shift(x, n), cd = cx - plain_shift(y, n);
  float sx = 0, qx = 0, sd = 0, qd = 0;
#pragma omp simd reduction(+ : sx, qx, sd, qd)
  for (int64_t i = 0; i < n; ++i) {
    const float a = x[i] - cx, b = (x[i] - y[i]) - cd;
    sx += a;
    qx += a * a;
    sd += b;
    qd += b * b;
  }
  const auto weight = static_cast<double>(n);
  return {unshift(weight, cx, sx, qx), unshift(weight, cd, sd, qd)};
}

// The same with weights, n <= kBlock; T is float or bool's uint8_t. The shift is the block's weighted mean, whatever
// the weights: no few examples could stand for it. The compare keeps NaN out where the weight is 0.
template <class T>
Pair weighted_block(const T* __restrict x, const T* __restrict y, const float* __restrict w, int64_t n) {
  float weight = 0, mx = 0, md = 0;
#pragma omp simd reduction(+ : weight, mx, md)
  for (int64_t i = 0; i < n; ++i) {
    const float a = static_cast<float>(x[i]), b = a - static_cast<float>(y[i]);
    const float wa = w[i] * a, wb = w[i] * b;
    weight += w[i];
    mx += w[i] > 0 ? wa : 0;
    md += w[i] > 0 ? wb : 0;
  }
  if (weight == 0) return {};
  const float cx = mx / weight, cd = md / weight;
  float sx = 0, qx = 0, sd = 0, qd = 0;
#pragma omp simd reduction(+ : sx, qx, sd, qd)
  for (int64_t i = 0; i < n; ++i) {
    const float a = static_cast<float>(x[i]) - cx;
    const float b = (static_cast<float>(x[i]) - static_cast<float>(y[i])) - cd;
    const float wa = w[i] * a, wb = w[i] * b, waa = wa * a, wbb = wb * b;
    sx += w[i] > 0 ? wa : 0;
    qx += w[i] > 0 ? waa : 0;
    sd += w[i] > 0 ? wb : 0;
    qd += w[i] > 0 ? wbb : 0;
  }
  return {unshift(weight, cx, sx, qx), unshift(weight, cd, sd, qd)};
}

inline int64_t sum_bytes(uint64_t lanes) {
  const uint64_t even = lanes & 0x00ff00ff00ff00ff, odd = (lanes >> 8) & 0x00ff00ff00ff00ff;
  return static_cast<int64_t>(((even + odd) * 0x0001000100010001) >> 48);
}

// Counts, hence exact: eight bools are added at a time as one word. n <= kBoolBlock.
inline Pair bool_block(const uint8_t* __restrict x, const uint8_t* __restrict y, int64_t n) {
  uint64_t xs = 0, ys = 0, boths = 0;
  const int64_t words = n / 8;
#pragma omp simd reduction(+ : xs, ys, boths)
  for (int64_t i = 0; i < words; ++i) {
    uint64_t a, b;
    std::memcpy(&a, x + 8 * i, 8);
    std::memcpy(&b, y + 8 * i, 8);
    xs += a;
    ys += b;
    boths += a & b;
  }
  int64_t kx = sum_bytes(xs), ky = sum_bytes(ys), both = sum_bytes(boths);
  for (int64_t i = 8 * words; i < n; ++i) {
    kx += x[i];
    ky += y[i];
    both += x[i] & y[i];
  }
  const auto weight = static_cast<double>(n), difference = static_cast<double>(kx - ky);
  return {unshift(weight, 0, static_cast<double>(kx), static_cast<double>(kx)),
          unshift(weight, 0, difference, static_cast<double>(kx + ky - 2 * both))};
}

// One block of a row, w null without weights.
inline Pair block(const float* x, const float* y, const float* w, int64_t n) {
  return w ? weighted_block(x, y, w, n) : plain_block(x, y, n);
}
inline Pair block(const uint8_t* x, const uint8_t* y, const float* w, int64_t n) {
  return w ? weighted_block(x, y, w, n) : bool_block(x, y, n);
}

template <class T>
Pair row(const T* x, const T* y, const float* w, int64_t n) {
  const int64_t step = sizeof(T) == 1 && !w ? kBoolBlock : kBlock;
  Pair sum;
  for (int64_t i = 0; i < n; i += step)
    sum = merge(sum, block(x + i, y + i, w ? w + i : nullptr, std::min(step, n - i)));
  return sum;
}

// What is reported of a row: non-finite scores give NaN wherever they stand, so does n = 0; a single effective
// example has a mean but no variance.
struct Estimate {
  double mean = kNaN, variance = kNaN;
};

inline Estimate estimate(const Moments& m, const Weight& w) {
  if (!(w.sum > 0) || !std::isfinite(m.mean)) return {};
  const double freedom = w.sum - w.square / w.sum;  // n - 1 for weights of 0 and 1
  return {m.mean, freedom > 0 ? m.m2 / freedom : kNaN};
}

// z standard errors; at z = 0 the variance is not looked at.
inline double margin(const Estimate& e, const Weight& w, double z) {
  return z == 0 ? 0 : z * std::sqrt(e.variance * w.square) / w.sum;
}

}  // namespace ev3x::score_stats

#endif  // EV3X_SCORE_STATS_SCORE_STATS_H_
