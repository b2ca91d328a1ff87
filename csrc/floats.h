// Floats that compare alike everywhere: without subnormal numbers, or as integers.
#ifndef EV3X_FLOATS_H_
#define EV3X_FLOATS_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "shared.h"

namespace ev3x {
inline namespace EV3X_ISA {

// XLA may run with subnormal numbers flushed, its fallback elsewhere may not: where order matters they count as zero.
inline float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f : x; }

// Integers in the order of floats (not NaN; flushed, for -0 comes before 0).
inline uint32_t to_key(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

}  // namespace EV3X_ISA
}  // namespace ev3x

#endif  // EV3X_FLOATS_H_
