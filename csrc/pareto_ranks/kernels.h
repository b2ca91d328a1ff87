#ifndef EV3X_PARETO_RANKS_KERNELS_H_
#define EV3X_PARETO_RANKS_KERNELS_H_

#include <cstdint>

#include "cpu/isa.h"

namespace ev3x::pareto_ranks {

inline constexpr int64_t kTileWords = 8, kTile = 64 * kTileWords;  // a tile: bits for that many rows, a cache line
inline constexpr int64_t kPad = 16;                                // the most lanes of a vector of int32_t

// Events of one objective: place p as ~p, "at least as good as all that follow", and as p, "what has come so far is at
// least as good as p". Those of equal values come together, all ~p first.
struct Events {
  const int32_t* lists;  // [count, stride], each filled up with INT32_MAX
  int64_t count, stride, size;
};

// Ranks of the places so far, as bits by place: plane 0 for those that have one, plane 1 + b for bit b of it.
struct Planes {
  uint64_t* words;  // [planes, words_each], zero
  int64_t words_each;
  int32_t bits = 0;  // how many of a rank are in use
};

struct Kernels {
  // held[0:end - begin + 1, kTileWords]: for the places begin .. end - 1 that are in this tile or after it, which of
  // the tile are at least as good in all lists; the last one is scratch. `kept` is scratch as large as a list.
  void (*gather)(const Events& events, int64_t tile, int64_t begin, int64_t end, int32_t* kept, uint64_t* held);
  // rank[begin:end], one more than the highest among those before that `held` [tiles, held_stride words] names, or 0.
  // `spare` is scratch for two planes.
  void (*rank)(const uint64_t* held, int64_t held_stride, int64_t begin, int64_t end, Planes& planes, uint64_t* spare,
               int32_t* rank);
};

EV3X_KERNELS(Kernels)

}  // namespace ev3x::pareto_ranks

#endif  // EV3X_PARETO_RANKS_KERNELS_H_
