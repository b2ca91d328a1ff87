#ifndef EV3X_BOOTSTRAP_MEANS_KERNELS_H_
#define EV3X_BOOTSTRAP_MEANS_KERNELS_H_

#include "bootstrap_means/bootstrap_means.h"
#include "cpu/isa.h"

namespace ev3x::bootstrap_means {

// A row's mean, and what its scores are to be scaled by: 1, or kSmaller.
struct Centre {
  float mean = 0, scale = 1;
};

// Masks are bytes of 0 or 1, or null where all count; `counted` alike, of ~0 or 0.
struct Kernels {
  // The mean of those of x[0:n] that count; NaN without any, or if one of them is not finite.
  Centre (*mean)(const float* x, const uint8_t* mask, int64_t n);
  // scale * (x - mean), 0 where it does not count.
  void (*centre)(const float* x, const uint8_t* mask, Centre centre, int64_t n, float* out);
  // The keys of columns from, from + 1, ...
  void (*columns)(Seeds seeds, uint32_t purpose, uint32_t from, int64_t n, uint32_t* keys);
  // One resample's Poisson(1) weights of n columns, n a multiple of kGroup, from n / 2 keys. Returns their sum.
  int64_t (*halves)(Resample r, const uint32_t* keys, const uint32_t* counted, int64_t n, float* weights);
  // Its counts by these thresholds, from n keys. Returns their sum.
  int64_t (*counts)(Resample r, const uint32_t* keys, const int32_t* thresholds, const uint8_t* mask, int64_t n,
                    uint8_t* counts);
  // Adds `draws` draws from `places` (null: from all n) to counts that no resample brings to 256: that has a chance of
  // about n / 256!.
  void (*draw)(Seeds seeds, Resample r, const int32_t* places, int64_t n, int64_t draws, uint8_t* counts);
  void (*widen)(const uint8_t* counts, int64_t n, float* weights);
  // sums[t, k] += weights[t] . centred[k] for kTile resamples; rows lie kBlock apart, n is a multiple of kGroup.
  void (*multiply)(const float* weights, const float* centred, int64_t n, int64_t candidates, double* sums);
};

EV3X_KERNELS(Kernels)

}  // namespace ev3x::bootstrap_means

#endif  // EV3X_BOOTSTRAP_MEANS_KERNELS_H_
