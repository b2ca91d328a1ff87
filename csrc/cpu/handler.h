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

// The mask that may follow an operation's other operands, one byte an example; null if there is none.
inline ffi::ErrorOr<const uint8_t*> optional_mask(const ffi::RemainingArgs& rest) {
  if (rest.size() == 0) return ffi::ErrorOr<const uint8_t*>(nullptr);
  const auto given = rest.get<ffi::Buffer<ffi::PRED>>(0);
  if (given.has_error()) return ffi::Unexpected(given.error());
  return reinterpret_cast<const uint8_t*>(given->typed_data());
}

}  // namespace ev3x

#endif  // EV3X_HANDLER_H_
