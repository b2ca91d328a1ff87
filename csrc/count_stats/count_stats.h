// What count_stats counts, free of XLA and of threads: which predictions meet their labels.
#ifndef EV3X_COUNT_STATS_COUNT_STATS_H_
#define EV3X_COUNT_STATS_COUNT_STATS_H_

#include <cstdint>

#include "cpu/isa.h"

namespace ev3x::count_stats {

inline constexpr int64_t kBlock = 2048;  // labels and masks stay in L1 while all candidates pass

// What all candidates share of a block: per example, minus one where it counts, if not all do, and where the reference
// is right.
struct Block {
  int64_t n = 0;
  bool masked = false;
  const int32_t* labels = nullptr;
  int32_t counts[kBlock], right[kBlock];
  int32_t reference_correct = 0;
};

// Examples on which a candidate is right, and on which the reference is too.
struct Counts {
  int32_t correct = 0, both = 0;
};

struct Kernels {
  // mask is null where all examples count; n <= kBlock.
  void (*fill)(Block& b, const int32_t* labels, const int32_t* reference, const uint8_t* mask, int64_t n);
  Counts (*count)(const Block& b, const int32_t* predictions);
};

EV3X_KERNELS(Kernels)

}  // namespace ev3x::count_stats

#endif  // EV3X_COUNT_STATS_COUNT_STATS_H_
