#ifndef EV3X_QUANTILES_KERNELS_H_
#define EV3X_QUANTILES_KERNELS_H_

#include <cstdint>

#include "cpu/isa.h"

namespace ev3x::quantiles {

inline constexpr int64_t kBins = 2048;

// Keys with ranks wanted among them: lists[side][at .. at + n - 1], the least of which has rank `before`; of the ranks,
// first .. last - 1. The same places of the other side are free.
struct Job {
  int side;
  int64_t at, n, before, first, last;
};

// Of one thread: two lists of n + 1 keys, tables of kBins, and as many jobs as ranks.
struct Scratch {
  int32_t* lists[2];
  int32_t *counts, *ends;
  Job* jobs;
};

struct Kernels {
  // Integers in the order of those of x[0:n] that count (csrc/floats.h); mask holds bytes of 0 or 1, or null where all
  // do. There is room for n + 1 keys. Returns how many, -1 if one of them is NaN.
  int64_t (*fill)(const float* x, const uint8_t* mask, int64_t n, int32_t* keys);
  // values[i] = the key number ranks[i] of s.lists[0][0:n] in their order; ranks ascend, 0 <= rank < n.
  void (*select)(const Scratch& s, int64_t n, const int64_t* ranks, int64_t number, int32_t* values);
};

EV3X_KERNELS(Kernels)

}  // namespace ev3x::quantiles

#endif  // EV3X_QUANTILES_KERNELS_H_
