#ifndef EV3X_LEXICASE_KERNELS_H_
#define EV3X_LEXICASE_KERNELS_H_

#include "lexicase/lexicase.h"

namespace ev3x::lexicase {

// Of one thread. `order` counts up from 0, before a tournament and after it.
struct Scratch {
  int32_t *order, *touched;  // [cases] each
  int32_t *pool, *held;      // [stride] and [2 * stride]
};

struct Kernels {
  // Fills the cases from .. to - 1 of the field from scores [candidates, cases]. A negative epsilon asks for each
  // case's median absolute deviation. `held` is Scratch's.
  void (*prepare)(const Field& f, const float* scores, int64_t from, int64_t to, float epsilon, int32_t* held);
  // The winners of the tournaments from .. to - 1, -1 if nobody is eligible. draws[t] = Seeds::draw(t), t <= cases;
  // a and b are the seeds.
  void (*hold)(const Field& f, uint32_t a, uint32_t b, const uint32_t* draws, int64_t from, int64_t to,
               const Scratch& s, int32_t* winners);
};

EV3X_KERNELS(Kernels)

}  // namespace ev3x::lexicase

#endif  // EV3X_LEXICASE_KERNELS_H_
