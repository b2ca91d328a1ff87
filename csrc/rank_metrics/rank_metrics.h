// The arithmetic of rank_metrics, free of XLA and of threads: one row's area under the ROC curve and average precision.
//
// Scores become integers of the same order, those of positive and negative examples are sorted apart, and
// for every positive the negatives below it are counted. Ties are exact: counts are integers.
#ifndef EV3X_RANK_METRICS_RANK_METRICS_H_
#define EV3X_RANK_METRICS_RANK_METRICS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/radix_sort.h"
#include "floats.h"

namespace ev3x::rank_metrics {

struct Scratch {
  std::vector<uint32_t> keys, spare;
  std::vector<int32_t> below;
  explicit Scratch(int64_t n) : keys(n), spare(n), below(n) {}
};

struct Metrics {
  double auroc = std::numeric_limits<double>::quiet_NaN(), average_precision = auroc;
};

// NaN where undefined: without positives, for the area without negatives, and with a NaN among the scores.
inline Metrics row(const float* scores, const uint8_t* labels, int64_t n, Scratch& s) {
  int64_t positives = 0, negatives = 0;
  bool nan = false;
  for (int64_t i = 0; i < n; ++i) {
    nan |= std::isnan(scores[i]);
    // Both places are free: what is not kept is written over.
    const uint32_t key = to_key(flush(scores[i]));
    s.keys[positives] = key;
    s.spare[negatives] = key;
    positives += labels[i];
    negatives += !labels[i];
  }
  if (nan || positives == 0) return {};
  std::copy(s.spare.begin(), s.spare.begin() + negatives, s.keys.begin() + positives);
  const auto self = [](uint32_t key) { return key; };
  const uint32_t* right = radix_sort(s.keys.data(), s.spare.data(), positives, self);
  const uint32_t* wrong = radix_sort(s.keys.data() + positives, s.spare.data() + positives, negatives, self);

  int64_t met = 0;
  for (int64_t i = 0, j = 0;;) {  // without a branch on the scores
    if (j == negatives) {
      std::fill(s.below.begin() + i, s.below.begin() + positives, static_cast<int32_t>(negatives));
      break;
    }
    if (i == positives) break;
    const bool less = wrong[j] < right[i];
    s.below[i] = static_cast<int32_t>(j);
    j += less;
    i += !less;
  }

  int64_t twice_wins = 0;
  double precisions = 0;
  for (int64_t i = 0; i < positives; i = met) {
    const uint32_t key = right[i];
    for (met = i + 1; met < positives && right[met] == key;) ++met;
    const int64_t below = s.below[i];
    int64_t ties = below;
    while (ties < negatives && wrong[ties] == key) ++ties;
    twice_wins += (met - i) * (below + ties);
    const auto hits = static_cast<double>(positives - i);
    precisions += static_cast<double>(met - i) * hits / (hits + static_cast<double>(negatives - below));
  }
  const auto p = static_cast<double>(positives);
  Metrics out;
  if (negatives) out.auroc = static_cast<double>(twice_wins) / 2 / p / static_cast<double>(negatives);
  out.average_precision = precisions / p;
  return out;
}

}  // namespace ev3x::rank_metrics

#endif  // EV3X_RANK_METRICS_RANK_METRICS_H_
