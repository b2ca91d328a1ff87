// A vector of int32_t of the instruction set that the code is compiled for, as far as kernels select among integers:
// one lane for the baseline, which can neither compare nor compress well.
#ifndef EV3X_LANES_H_
#define EV3X_LANES_H_

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace ev3x {
inline namespace EV3X_ISA {

#if defined(__AVX512F__)

inline constexpr int kLanes = 16;
using Lanes = __m512i;
using Mask = __mmask16;
inline Lanes load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline Lanes splat(int32_t x) { return _mm512_set1_epi32(x); }
inline Mask at_most(Lanes x, Lanes bar) { return _mm512_cmple_epi32_mask(x, bar); }
inline Mask at_least(Lanes x, Lanes bar) { return _mm512_cmpge_epi32_mask(x, bar); }
inline Mask both(Mask a, Mask b) { return a & b; }
inline Mask either(Mask a, Mask b) { return a | b; }
inline int32_t count(Mask m) { return __builtin_popcount(m); }
inline void put(int32_t* out, Lanes x, Mask kept) { _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(kept, x)); }

#elif defined(__AVX2__)

inline constexpr int kLanes = 8;
using Lanes = __m256i;
using Mask = uint32_t;
inline Lanes load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Lanes splat(int32_t x) { return _mm256_set1_epi32(x); }
inline Mask bits(Lanes x) { return static_cast<Mask>(_mm256_movemask_ps(_mm256_castsi256_ps(x))); }
inline Mask at_most(Lanes x, Lanes bar) { return 0xff ^ bits(_mm256_cmpgt_epi32(x, bar)); }
inline Mask at_least(Lanes x, Lanes bar) { return 0xff ^ bits(_mm256_cmpgt_epi32(bar, x)); }
inline Mask both(Mask a, Mask b) { return a & b; }
inline Mask either(Mask a, Mask b) { return a | b; }
inline int32_t count(Mask m) { return __builtin_popcount(m); }

// The places of a mask's bits, ascending, a byte each.
struct Places {
  uint64_t of[256];
};
constexpr Places places() {
  Places p{};
  for (int mask = 0; mask < 256; ++mask)
    for (int bit = 0, kept = 0; bit < 8; ++bit)
      if (mask >> bit & 1) p.of[mask] |= static_cast<uint64_t>(bit) << (8 * kept++);
  return p;
}
static constexpr Places kPlaces = places();

inline void put(int32_t* out, Lanes x, Mask kept) {
  const Lanes order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(kPlaces.of[kept])));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permutevar8x32_epi32(x, order));
}

#else

inline constexpr int kLanes = 1;
using Lanes = int32_t;
using Mask = int32_t;
inline Lanes load(const int32_t* p) { return *p; }
inline Lanes splat(int32_t x) { return x; }
inline Mask at_most(Lanes x, Lanes bar) { return x <= bar; }
inline Mask at_least(Lanes x, Lanes bar) { return x >= bar; }
inline Mask both(Mask a, Mask b) { return a & b; }
inline Mask either(Mask a, Mask b) { return a | b; }
inline int32_t count(Mask m) { return m; }
inline void put(int32_t* out, Lanes x, Mask) { *out = x; }

#endif

}  // namespace EV3X_ISA
}  // namespace ev3x

#endif  // EV3X_LANES_H_
