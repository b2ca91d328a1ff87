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

// Integers in the order of floats (not NaN; flushed, for -0 comes before 0), and back from the signed.
inline int32_t to_key(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits ^ (bits >> 31 & 0x7fffffff);
}
inline uint32_t to_unsigned_key(float x) { return static_cast<uint32_t>(to_key(x)) ^ 0x80000000u; }
inline float from_key(int32_t key) { return std::bit_cast<float>(key ^ (key >> 31 & 0x7fffffff)); }

}  // namespace EV3X_ISA
}  // namespace ev3x

#endif  // EV3X_FLOATS_H_
