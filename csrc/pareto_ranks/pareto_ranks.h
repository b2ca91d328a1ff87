// The arithmetic of pareto_ranks, free of XLA and of threads: fronts and crowding distances of rows [rows, objectives].
//
// With up to two objectives the fronts form a staircase that is searched by bisection. With more, the dominators of a
// row are a bit set, the intersection over the objectives of "at least as good there" (as in the best-order and merge
// sorts of Roy et al., 2016, and Moreno et al., 2020); the highest rank among them is read bit by bit from planes. So
// K^2 M / 64 word operations, and K / 8 bytes for a row at a time.
#ifndef EV3X_PARETO_RANKS_PARETO_RANKS_H_
#define EV3X_PARETO_RANKS_PARETO_RANKS_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "cpu/radix_sort.h"
#include "floats.h"
#include "pareto_ranks/kernels.h"

namespace ev3x::pareto_ranks {

inline constexpr int64_t kRowsAtATime = 2048;  // whose dominators are held: 8 MB of bits at K = 32768

template <class T>
std::unique_ptr<T[]> array(int64_t n) {
  return std::make_unique_for_overwrite<T[]>(n);
}

// The members of a front met last in a walk along an objective.
struct Walk {
  int32_t last = -1, before = -1;
  float low = 0, range = 0;  // of the whole front
};

// Memory of one thread, for one objective or one tile.
struct Bench {
  explicit Bench(int64_t rows)
      : items(array<uint64_t>(rows)),
        spare(array<uint64_t>(rows)),
        kept(array<int32_t>(2 * rows + 2 * kPad)),
        walks(array<Walk>(rows)) {}
  std::unique_ptr<uint64_t[]> items, spare;
  std::unique_ptr<int32_t[]> kept;
  std::unique_ptr<Walk[]> walks;
};

// One problem after the other, in the same memory. The steps, in their order, are the functions below.
struct Problem {
  Problem(int64_t rows_, int64_t width_)
      : rows(rows_),
        width(width_),
        tiles((rows + kTile - 1) / kTile),
        events_stride(2 * rows + 2 * kPad),
        held_stride((std::min(rows, kRowsAtATime) + 1) * kTileWords),
        values(array<float>(width * rows)),
        gaps(array<float>(width * rows)),
        best(array<float>(rows)),
        sorted(array<int32_t>(width * rows)),
        first(array<int32_t>(rows)),
        place(array<int32_t>(rows)),
        rank(array<int32_t>(rows)) {
    if (width <= 2) return;
    events = array<int32_t>((width - 1) * events_stride);
    bits = array<uint64_t>((tiles * held_stride) + (2 + kPlanes) * tiles * kTileWords + kTileWords);
    // Tiles are cache lines.
    auto* from = bits.get() + (64 - reinterpret_cast<uintptr_t>(bits.get()) % 64) % 64 / sizeof(uint64_t);
    held = from;
    spare = held + tiles * held_stride;
    planes = {spare + 2 * tiles * kTileWords, tiles * kTileWords};
  }

  static constexpr int64_t kPlanes = 32;
  int64_t rows, width, tiles, events_stride, held_stride;
  int64_t count = 0, distinct = 0;           // rows without NaN, and different ones among them
  std::unique_ptr<float[]> values;           // [width, rows], flushed
  std::unique_ptr<float[]> gaps;             // [width, rows], each objective's part of the crowding distance
  std::unique_ptr<float[]> best;             // per front
  std::unique_ptr<int32_t[]> sorted;         // [width, count], rows from the worst, equal ones by index
  std::unique_ptr<int32_t[]> first, place;   // a row of each place; a row's place, -1 with NaN
  std::unique_ptr<int32_t[]> rank;           // by place
  std::unique_ptr<int32_t[]> events;         // [width - 1, events_stride]
  std::unique_ptr<uint64_t[]> bits;          // of which:
  uint64_t *held = nullptr, *spare = nullptr;  // [tiles, held_stride] and [2, tiles * kTileWords]
  Planes planes{};

  float* column(int64_t m) const { return values.get() + m * rows; }
  int32_t* by(int64_t m) const { return sorted.get() + m * count; }
};

// Places are none yet: -1 for a row with NaN, 0 otherwise.
inline void begin(Problem& t, const float* x) {
  t.count = 0;
  for (int64_t i = 0; i < t.rows; ++i) {
    bool nan = false;
    for (int64_t m = 0; m < t.width; ++m) {
      const float value = x[i * t.width + m];
      nan |= std::isnan(value);
      t.column(m)[i] = flush(value);
    }
    t.place[i] = nan ? -1 : 0;
    t.count += !nan;
  }
}

// Of one objective.
inline void sort(const Problem& t, int64_t m, Bench& bench) {
  const float* v = t.column(m);
  int64_t n = 0;
  for (int64_t i = 0; i < t.rows; ++i)
    if (t.place[i] >= 0) bench.items[n++] = uint64_t{to_key(v[i])} << 32 | static_cast<uint32_t>(i);
  const uint64_t* done = radix_sort(bench.items.get(), bench.spare.get(), n,
                                    [](uint64_t item) { return static_cast<uint32_t>(item >> 32); });
  for (int64_t j = 0; j < n; ++j) t.by(m)[j] = static_cast<int32_t>(done[j] & 0xffffffff);
}

// Places: distinct rows in lexicographic order from the best. A row is dominated by earlier ones only.
inline void order(Problem& t, int32_t* index) {
  std::reverse_copy(t.by(0), t.by(0) + t.count, index);
  const auto before = [&t](int32_t i, int32_t j) {
    for (int64_t m = 1; m < t.width; ++m)
      if (t.column(m)[i] != t.column(m)[j]) return t.column(m)[i] > t.column(m)[j];
    return false;
  };
  t.distinct = 0;
  const float* v = t.column(0);
  int32_t* const end = index + t.count;
  for (int32_t* from = index; from != end;) {  // rows of one first objective
    int32_t* const to = std::find_if(from, end, [&](int32_t i) { return v[i] != v[*from]; });
    if (to - from > 1) std::sort(from, to, before);
    for (int32_t* i = from; i != to; ++i) {
      if (i == from || before(*(i - 1), *i)) t.first[t.distinct++] = *i;
      t.place[*i] = static_cast<int32_t>(t.distinct - 1);
    }
    from = to;
  }
}

// Of two objectives: a row is dominated by a front exactly if the front's best second objective so far is no less.
inline void staircase(Problem& t) {
  float *const best = t.best.get(), *end = best;  // never rises from one front to the next
  for (int64_t i = 0; i < t.distinct; ++i) {
    const float second = t.width > 1 ? t.column(1)[t.first[i]] : 0;
    float* const front = std::partition_point(best, end, [second](float b) { return b >= second; });
    t.rank[i] = static_cast<int32_t>(front - best);
    end += front == end;
    *front = second;
  }
}

// Of one objective but the first, which is at least as good for all earlier places.
inline void list_events(const Problem& t, int64_t m) {
  int32_t* const begin = t.events.get() + (m - 1) * t.events_stride;
  int32_t* out = begin;
  const int32_t* sorted = t.by(m);
  const float* v = t.column(m);
  const auto add = [&](int64_t from, int64_t to, int32_t flip) {
    for (int64_t s = from; s > to; --s) {
      const int32_t place = t.place[sorted[s]];
      *out = place ^ flip;
      out += t.first[place] == sorted[s];
    }
  };
  for (int64_t from = t.count - 1, to = from; from >= 0; from = to) {  // rows of one value, from the best
    while (to >= 0 && v[sorted[to]] == v[sorted[from]]) --to;
    add(from, to, -1);
    add(from, to, 0);
  }
  std::fill(out, out + kPad, std::numeric_limits<int32_t>::max());
}

// An objective's part of the crowding distances, from the ranks of places: the gap between a row's two neighbours in
// its front over the front's range, equal values in the order of their indices; infinity for the first and the last.
inline void crowd(const Problem& t, int64_t m, int64_t fronts, Walk* walks) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float* v = t.column(m);
  const int32_t* sorted = t.by(m);
  float* gap = t.gaps.get() + m * t.rows;
  const auto walk = [&](int32_t i) -> Walk& { return walks[t.rank[t.place[i]]]; };
  std::fill(walks, walks + fronts, Walk{});
  for (int64_t j = 0; j < t.count; ++j) {
    Walk& w = walk(sorted[j]);
    if (w.last < 0) w.low = v[sorted[j]];
    w.last = sorted[j];
  }
  for (Walk* w = walks; w != walks + fronts; ++w) {
    w->range = flush(v[w->last] - w->low);
    if (!(w->range > 0 && w->range < kInfinity)) w->range = 0;
    w->last = -1;
  }
  for (int64_t j = 0; j < t.count; ++j) {
    const int32_t i = sorted[j];
    Walk& w = walk(i);
    gap[i] = kInfinity;  // until another follows
    if (w.before >= 0) gap[w.last] = w.range > 0 ? flush(v[i] - v[w.before]) / w.range : 0;
    w.before = std::exchange(w.last, i);
  }
}

// Rows with NaN get the rank `rows` and no distance.
inline void report(const Problem& t, int32_t* rank, float* distance) {
  for (int64_t i = 0; i < t.rows; ++i) {
    const bool known = t.place[i] >= 0;
    rank[i] = known ? t.rank[t.place[i]] : static_cast<int32_t>(t.rows);
    distance[i] = 0;
    for (int64_t m = 0; known && m < t.width; ++m) distance[i] += t.gaps[m * t.rows + i];
  }
}

}  // namespace ev3x::pareto_ranks

#endif  // EV3X_PARETO_RANKS_PARETO_RANKS_H_
