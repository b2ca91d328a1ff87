// Instruction sets. Kernels, the loops that pay for SIMD, are compiled once per set that EV3X_ISA names (baseline, v3 or
// v4); everything else, XLA's headers above all, once for the baseline. So no code for a later set can be shared by
// accident: a function of these headers lies in a namespace of its set, and kernels hold neither containers nor other
// templates of the standard library that the compiler does not inline (CMake checks their objects for weak symbols).
#ifndef EV3X_ISA_H_
#define EV3X_ISA_H_

#include "shared.h"

namespace ev3x {

enum class Isa { kBaseline, kV3, kV4 };  // of x86-64, its levels 3 (AVX2, FMA) and 4 (AVX-512)

Isa isa();               // what kernels are taken from now
Isa best_isa();          // the latest of this build that this machine runs
void use_isa(Isa wanted);  // not later than best_isa()

// Bytes of a vector register: wider vector types than the set's own are lowered badly by GCC 12.
#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

}  // namespace ev3x

// In an operation's namespace: `kernels()` returns its table of functions for the set in use. Each set's table is
// defined in kernels.cc, within namespace EV3X_ISA.
#ifdef EV3X_X86_LEVELS
#define EV3X_KERNELS(Table)                          \
  namespace baseline { extern const Table kTable; }  \
  namespace v3 { extern const Table kTable; }        \
  namespace v4 { extern const Table kTable; }        \
  inline const Table& kernels() {                    \
    const Isa now = isa();                           \
    if (now == Isa::kV4) return v4::kTable;          \
    return now == Isa::kV3 ? v3::kTable : baseline::kTable; \
  }
#else
#define EV3X_KERNELS(Table)                          \
  namespace baseline { extern const Table kTable; }  \
  inline const Table& kernels() { return baseline::kTable; }
#endif

#endif  // EV3X_ISA_H_
