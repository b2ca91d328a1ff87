// Random numbers as hashes of their place: no state, no order, hence the same ones everywhere.
#ifndef EV3X_HASH_H_
#define EV3X_HASH_H_

#include <cstdint>

#include "shared.h"

namespace ev3x {
inline namespace EV3X_ISA {

// A bijection of 32 bits with little bias ("lowbias32" of C. Wellons' hash prospector, revised constants).
template <class Word>
EV3X_SHARED inline Word mix(Word x) {
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x = (x ^ (x >> 15)) * 0xd35a2d97u;
  return x ^ (x >> 15);
}

}  // namespace EV3X_ISA
}  // namespace ev3x

#endif  // EV3X_HASH_H_
