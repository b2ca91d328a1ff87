// The arithmetic of bootstrap_means, free of XLA, of threads and of instruction sets: how often a resample holds an
// example, as a hash of (seeds, resample, example): no state, no order, hence the same weights everywhere.
//
// A word mixes a column's key with a resample's two. Half a word, compared with the distribution function, is a
// Poisson(1) weight. An exact resample of n is made of Poisson(rate) counts, rate < 1, with the missing draws made one
// by one: given their total, Poisson counts are multinomial.
#ifndef EV3X_BOOTSTRAP_MEANS_BOOTSTRAP_MEANS_H_
#define EV3X_BOOTSTRAP_MEANS_BOOTSTRAP_MEANS_H_

#include <cstdint>

#include "hash.h"
#include "shared.h"

namespace ev3x::bootstrap_means {

inline constexpr int64_t kBlock = 1024;   // columns that are held at once; blocks begin at multiples of it
inline constexpr int64_t kGroup = 32;     // examples: word w of a group's 16 is for examples w and w + 16 of them
inline constexpr int64_t kTile = 4;       // resamples at once
inline constexpr int kThresholds = 8;     // of 16 bits: round(65536 * P(Poisson(1) <= j)), less 32769 for a signed >
inline constexpr int16_t kPoisson[kThresholds] = {-8660, 15450, 27504, 31523, 32527, 32728, 32762, 32766};
inline constexpr int kExactThresholds = 12;  // of 32 bits, alike: for rates up to 1

// Scores above kLarge are scaled by kSmaller for the sums, which could overflow; the definition does so too.
inline constexpr float kLarge = 0x1p60f, kSmaller = 0x1p-64f;

// What a column's key is for.
inline constexpr uint32_t kOfHalves = 0x9e3779b9u, kOfCounts = 0x7f4a7c15u, kOfDraws = 0xf39cc060u;

struct Seeds {
  uint32_t a, b;
};

struct Resample {
  uint32_t first, second;
};

inline namespace EV3X_ISA {

EV3X_SHARED inline Resample resample(Seeds s, uint32_t r) {
  return {mix(mix(r ^ s.a) + s.b), mix(mix(r ^ s.b ^ 0x85ebca6bu) + s.a)};
}

template <class Word>
EV3X_SHARED inline Word column(Seeds s, uint32_t purpose, Word index) {
  return mix(mix(index ^ (s.b ^ purpose)) + s.a);
}

// The mix with the second key within, or words would be the same wherever two keys' differences are.
template <class Word>
EV3X_SHARED inline Word word(Resample r, Word column) {
  Word x = column ^ r.first;
  x = (x ^ (x >> 16)) * 0x21f0aaadu + r.second;
  x = (x ^ (x >> 15)) * 0xd35a2d97u;
  return x ^ (x >> 15);
}

EV3X_SHARED inline uint32_t below(uint32_t random, uint32_t n) {
  return static_cast<uint32_t>((static_cast<uint64_t>(random) * n) >> 32);
}

}  // namespace EV3X_ISA
}  // namespace ev3x::bootstrap_means

#endif  // EV3X_BOOTSTRAP_MEANS_BOOTSTRAP_MEANS_H_
