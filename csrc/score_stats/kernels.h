#ifndef EV3X_SCORE_STATS_KERNELS_H_
#define EV3X_SCORE_STATS_KERNELS_H_

#include "cpu/isa.h"
#include "score_stats/score_stats.h"

namespace ev3x::score_stats {

struct BFloat16 {
  uint16_t bits;
};

// The moments of x[0:n] and of x - y, of any length; bools are bytes of 0 or 1. Weighted, examples of weight 0 do not
// count, whatever their scores.
template <class T>
struct Rows {
  Pair (*plain)(const T* x, const T* y, int64_t n);
  Pair (*weighted)(const T* x, const T* y, const float* w, int64_t n);
};

struct Kernels {
  Rows<float> f32;
  Rows<BFloat16> bf16;
  Rows<uint8_t> boolean;
  Weight (*weigh)(const float* w, int64_t n);
};

EV3X_KERNELS(Kernels)

}  // namespace ev3x::score_stats

#endif  // EV3X_SCORE_STATS_KERNELS_H_
