#include "pareto_ranks/kernels.h"

#include "cpu/lanes.h"

namespace ev3x::pareto_ranks {
namespace EV3X_ISA {
namespace {

typedef uint64_t Words __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
constexpr int64_t kWords = kVectorBytes / 8, kParts = kTileWords / kWords;

// All bits of a lane where it is the word of that number; by 32 bits, for SSE2 cannot compare more.
Words lane(uint32_t number) {
  typedef uint32_t Halves __attribute__((vector_size(kVectorBytes)));
  Halves own;
  for (uint32_t i = 0; i < 2 * kWords; ++i) own[i] = i / 2;
  return reinterpret_cast<Words>(own == number);
}

// A tile in registers. It is changed as a whole, for a vector that is read right after a part of it was written waits.
struct Tile {
  Words part[kParts];
  void add(uint32_t word, uint64_t bits) {
    for (uint32_t p = 0; p < kParts; ++p) part[p] |= lane(word - p * kWords) & bits;
  }
};

bool any(Words w) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(w), reinterpret_cast<__m512i>(w)) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256(reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(w));
#else
  return (w[0] | w[1]) != 0;
#endif
}

// Events of places begin .. end - 1, and those of ~p for p in from .. to - 1.
int64_t select(const int32_t* list, int64_t size, int64_t begin, int64_t end, int64_t from, int64_t to, int32_t* out) {
  const Lanes first = splat(static_cast<int32_t>(begin)), last = splat(static_cast<int32_t>(end - 1));
  const Lanes low = splat(~static_cast<int32_t>(to - 1)), high = splat(~static_cast<int32_t>(from));
  int64_t kept = 0;
  for (int64_t i = 0; i < size; i += kLanes) {
    const Lanes x = load(list + i);
    const Mask chosen = either(both(at_least(x, first), at_most(x, last)), both(at_least(x, low), at_most(x, high)));
    put(out + kept, x, chosen);
    kept += count(chosen);
  }
  return kept;
}

template <bool kFirst>
void meet(const int32_t* events, int64_t n, int64_t begin, int64_t scratch, uint64_t* held) {
  Tile seen{};
  uint64_t* const origin = held - begin * kTileWords;
  const auto elsewhere = static_cast<uint32_t>(begin + scratch);
  for (int64_t i = 0; i < n; ++i) {  // without a branch on the events
    const auto event = static_cast<uint32_t>(events[i]);
    const uint32_t adds = event >> 31, place = event ^ (0 - adds);
    seen.add(place / 64 % kTileWords, static_cast<uint64_t>(adds) << (place % 64));
    auto* row = reinterpret_cast<Words*>(origin + uint64_t{adds ? elsewhere : place} * kTileWords);
    for (int64_t p = 0; p < kParts; ++p) row[p] = kFirst ? seen.part[p] : row[p] & seen.part[p];
  }
}

void gather(const Events& events, int64_t tile, int64_t begin, int64_t end, int32_t* kept, uint64_t* held) {
  const int64_t from = tile * kTile, to = from + kTile;
  for (int64_t e = 0; e < events.count; ++e) {
    const int64_t n = select(events.lists + e * events.stride, events.size, begin < from ? from : begin, end, from, to,
                             kept);
    (e == 0 ? meet<true> : meet<false>)(kept, n, begin, end - begin, held);
  }
}

void rank_rows(const uint64_t* held, int64_t held_stride, int64_t begin, int64_t end, Planes& planes, uint64_t* spare,
               int32_t* rank) {
  const auto plane = [&](int64_t b) { return planes.words + b * planes.words_each; };
  // Of `from` those in the plane, to `to`; whether there are any.
  const auto meets = [&](const uint64_t* from, int64_t stride, int64_t b, int64_t tiles, uint64_t* to) {
    const uint64_t* members = plane(b);
    Words found{};
    for (int64_t t = 0; t < tiles; ++t) {
      for (int64_t p = 0; p < kParts; ++p) {
        const int64_t w = t * kTileWords + p * kWords;
        const Words x = *reinterpret_cast<const Words*>(from + t * stride + p * kWords) &
                        *reinterpret_cast<const Words*>(members + w);
        *reinterpret_cast<Words*>(to + w) = x;
        found |= x;
      }
    }
    return any(found);
  };
  for (int64_t i = begin; i < end; ++i) {
    const int64_t tiles = i / kTile + 1;
    uint64_t *now = spare, *next = spare + planes.words_each;
    int32_t r = 0;
    // Later places of the tile are in no plane yet.
    if (meets(held + (i - begin) * kTileWords, held_stride, 0, tiles, now)) {
      for (int32_t b = planes.bits - 1; b >= 0; --b) {
        if (!meets(now, kTileWords, 1 + b, tiles, next)) continue;
        r |= 1 << b;
        uint64_t* other = now;
        now = next;
        next = other;
      }
      ++r;
    }
    rank[i] = r;
    while (r >> planes.bits) ++planes.bits;
    for (int32_t b = 0; b <= planes.bits; ++b) {
      if (b > 0 && !(r >> (b - 1) & 1)) continue;
      Tile& tile = *reinterpret_cast<Tile*>(plane(b) + (tiles - 1) * kTileWords);
      tile.add(static_cast<uint32_t>(i / 64 % kTileWords), uint64_t{1} << (i % 64));
    }
  }
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{gather, rank_rows};

}  // namespace EV3X_ISA
}  // namespace ev3x::pareto_ranks
