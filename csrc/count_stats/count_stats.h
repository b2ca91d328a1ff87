// The arithmetic of count_stats, free of XLA and of threads: which predictions meet their labels, counted.
#ifndef EV3X_COUNT_STATS_COUNT_STATS_H_
#define EV3X_COUNT_STATS_COUNT_STATS_H_

#include <cstdint>

namespace ev3x::count_stats {

inline constexpr int64_t kBlock = 4096;  // 3 x 16 KiB of operands stay near while all candidates pass

// What all candidates share of a block: per example, minus one where it counts and where the reference is right.
struct Block {
  int64_t n = 0;
  int32_t labels[kBlock], counts[kBlock], right[kBlock];
  int32_t reference_correct = 0;
};

// mask is null where all examples count; n <= kBlock.
inline void fill(Block& b, const int32_t* labels, const int32_t* reference, const uint8_t* mask, int64_t n) {
  b.n = n;
  int32_t correct = 0;
#pragma omp simd reduction(+ : correct)
  for (int64_t i = 0; i < n; ++i) {
    const int32_t counts = mask ? -static_cast<int32_t>(mask[i]) : -1;
    b.labels[i] = labels[i];
    b.counts[i] = counts;
    b.right[i] = labels[i] == reference[i] ? counts : 0;
    correct -= b.right[i];
  }
  b.reference_correct = correct;
}

// Examples on which a candidate is right, and on which the reference is too.
struct Counts {
  int32_t correct = 0, both = 0;
};

inline Counts count(const Block& b, const int32_t* __restrict predictions) {
  int32_t correct = 0, both = 0;
#pragma omp simd reduction(+ : correct, both)
  for (int64_t i = 0; i < b.n; ++i) {
    const int32_t same = predictions[i] == b.labels[i] ? -1 : 0;
    correct -= same & b.counts[i];
    both -= same & b.right[i];
  }
  return {correct, both};
}

}  // namespace ev3x::count_stats

#endif  // EV3X_COUNT_STATS_COUNT_STATS_H_
