// What the code of lexicase shares, free of XLA, of threads and of instruction sets: the random numbers, and the field
// in which tournaments are held.
//
// All candidates meet the first case of a tournament, whichever it is, so what each case would leave of them is worked
// out once; tournaments then go on with short lists. Cases are drawn one at a time (Fisher and Yates), for most
// tournaments are over after a few. Random numbers are hashes of (seeds, parent, draw): no state, no order. Scores are
// held as integers of the same order (floats.h), NaN and subnormal numbers replaced.
#ifndef EV3X_LEXICASE_LEXICASE_H_
#define EV3X_LEXICASE_LEXICASE_H_

#include <cstdint>

#include "cpu/isa.h"
#include "hash.h"

namespace ev3x::lexicase {

inline constexpr int64_t kPad = 16;  // the most lanes of a vector: loops over keys or places go in full vectors

// The eligible candidates' keys by case, and what each case alone leaves of them: places among them, ascending. Rows
// are filled up with a key below all others, lists with a place that holds it.
struct Field {
  const int32_t* candidates;  // [count], ascending
  int64_t count, cases;
  int64_t stride;       // of rows and lists: more than count + kPad, and no power of two: cache sets
  int32_t* keys;        // [cases, stride]
  float* epsilon;       // [cases]
  int32_t* left;        // [cases, stride], of which
  int32_t* left_count;  // [cases]
};

inline int64_t stride_of(int64_t count) { return (count | (kPad - 1)) + 1 + kPad + 2; }

inline namespace EV3X_ISA {

struct Seeds {
  uint32_t a, b;
  uint32_t parent(int64_t p) const { return mix(mix(static_cast<uint32_t>(p) ^ a) + b); }
  uint32_t draw(int64_t t) const { return mix(mix(static_cast<uint32_t>(t) ^ b ^ 0x9e3779b9u) + a); }
};

inline uint32_t below(uint32_t random, int64_t n) { return random % static_cast<uint32_t>(n); }

}  // namespace EV3X_ISA
}  // namespace ev3x::lexicase

#endif  // EV3X_LEXICASE_LEXICASE_H_
