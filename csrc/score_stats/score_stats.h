// The arithmetic of score_stats, free of XLA, of threads and of instruction sets.
//
// Rows are cut into blocks. A block is summed in float around its own shift (so that a mean of 1e4 with a deviation of
// 1e-2 loses nothing), folded to double, and merged into the row by Chan, Golub and LeVeque's update (1983, eq. 2.1).
// Blocks depend on the shape alone, so the bits do not depend on the threads.
#ifndef EV3X_SCORE_STATS_SCORE_STATS_H_
#define EV3X_SCORE_STATS_SCORE_STATS_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "shared.h"

namespace ev3x::score_stats {

// Weighted mean and sum of squared deviations.
struct Moments {
  double weight = 0, mean = 0, m2 = 0;
};

// A row's own moments and those of its difference to the reference, on the same examples.
struct Pair {
  Moments own, difference;
};

// Sums of weights and of their squares, and how many are not zero: one column's, shared by all candidates.
struct Weight {
  double sum = 0, square = 0;
  int64_t examples = 0;
};

// What is reported of a row.
struct Estimate {
  double mean, variance;
};

inline namespace EV3X_ISA {

EV3X_SHARED inline Moments merge(const Moments& a, const Moments& b) {
  if (a.weight == 0) return b;
  if (b.weight == 0) return a;
  const double weight = a.weight + b.weight, delta = b.mean - a.mean, share = b.weight / weight;
  return {weight, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.weight * share};
}

EV3X_SHARED inline Pair merge(const Pair& a, const Pair& b) {
  return {merge(a.own, b.own), merge(a.difference, b.difference)};
}

EV3X_SHARED inline Weight merge(const Weight& a, const Weight& b) {
  return {a.sum + b.sum, a.square + b.square, a.examples + b.examples};
}

// Moments from the sums of w*(x - shift) and w*(x - shift)^2.
EV3X_SHARED inline Moments unshift(double weight, double shift, double sum, double square) {
  if (weight == 0) return {};
  const double excess = sum / weight, m2 = square - sum * excess;
  return {weight, shift + excess, m2 < 0 ? 0.0 : m2};  // NaN stays
}

// From counts of ones: among x, y and both of n.
EV3X_SHARED inline Pair count(int64_t n, int64_t x, int64_t y, int64_t both) {
  const auto weight = static_cast<double>(n), difference = static_cast<double>(x - y);
  return {unshift(weight, 0, static_cast<double>(x), static_cast<double>(x)),
          unshift(weight, 0, difference, static_cast<double>(x + y - 2 * both))};
}

// Sums of float scores may overflow where a mean or squares are beyond these, in one order of adding up and not in
// another. So a row of such scores counts as not finite, whatever came out. `conclude` in Python has the same limits.
inline constexpr double kMostMean = 0x1p60, kMostSquares = 0x1p120;

// Non-finite scores give NaN wherever they stand, so does n = 0; a single effective example has a mean, no variance.
EV3X_SHARED inline Estimate estimate(const Moments& m, const Weight& w) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  if (!(w.sum > 0 && std::fabs(m.mean) < kMostMean && m.m2 < kMostSquares)) return {kNaN, kNaN};
  const double freedom = w.sum - w.square / w.sum;  // n - 1 for weights of 0 and 1
  return {m.mean, w.examples > 1 && freedom > 0 ? m.m2 / freedom : kNaN};
}

// z standard errors; at z = 0 the variance is not looked at.
EV3X_SHARED inline double margin(const Estimate& e, const Weight& w, double z) {
  return z == 0 ? 0 : z * std::sqrt(e.variance * w.square) / w.sum;
}

}  // namespace EV3X_ISA
}  // namespace ev3x::score_stats

#endif  // EV3X_SCORE_STATS_SCORE_STATS_H_
