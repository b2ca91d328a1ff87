// Vectors as wide as the instruction set's registers, in GCC's and Clang's vector extension. For kernels.cc only.
#ifndef EV3X_SIMD_H_
#define EV3X_SIMD_H_

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

namespace ev3x {
inline namespace EV3X_ISA {

template <class T, int bytes = kVectorBytes>
using Vector __attribute__((vector_size(bytes))) = T;

using Floats = Vector<float>;
using Bytes = Vector<uint8_t>;
inline constexpr int kFloats = kVectorBytes / sizeof(float);

template <class V, class T>
inline V load_as(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline Floats load(const float* x) { return load_as<Floats>(x); }

// A loop that GCC 12 turns into one instruction, as it does not for __builtin_convertvector between widths.
template <class T>
inline Vector<int32_t> widened(const T* x) {
  int32_t lanes[kFloats];
  for (int i = 0; i < kFloats; ++i) lanes[i] = x[i];
  return load_as<Vector<int32_t>>(lanes);
}

inline Floats load(const uint8_t* x) { return __builtin_convertvector(widened(x), Floats); }

// The sum of all lanes, by halves.
inline float total(Floats v) {
  Vector<float, 16> part[kFloats / 4];
  std::memcpy(part, &v, sizeof v);
#pragma GCC unroll 2
  for (int half = kFloats / 8; half; half /= 2)
#pragma GCC unroll 2
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return (part[0][0] + part[0][2]) + (part[0][1] + part[0][3]);
}

inline int32_t total(Bytes v) {
  uint8_t lanes[kVectorBytes];
  std::memcpy(lanes, &v, sizeof v);
  int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < kVectorBytes; ++i) sum += lanes[i];
  return sum;
}

}  // namespace EV3X_ISA
}  // namespace ev3x

#endif  // EV3X_SIMD_H_
