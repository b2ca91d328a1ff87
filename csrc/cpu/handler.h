// What the CPU handlers of all operations share.
#ifndef EV3X_HANDLER_H_
#define EV3X_HANDLER_H_

#include <cstdint>

#include "cpu/parallel_for.h"
#include "xla/ffi/api/ffi.h"

namespace ev3x {

namespace ffi = xla::ffi;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The product of all but the last `trailing` axes: every operation works on any number of leading ones.
inline int64_t leading(ffi::Span<const int64_t> shape, size_t trailing) {
  int64_t product = 1;
  for (size_t i = 0; i + trailing < shape.size(); ++i) product *= shape[i];
  return product;
}

}  // namespace ev3x

#endif  // EV3X_HANDLER_H_
