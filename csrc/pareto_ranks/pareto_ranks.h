// The arithmetic of pareto_ranks, free of XLA and of threads: fronts and crowding distances of rows [rows, objectives].
//
// With up to two objectives the fronts form a staircase that is searched by bisection. With more, the dominators of a
// row are a bit set, the intersection over the objectives of "at least as good there" (as in the best-order and merge
// sorts of Roy et al., 2016, and Moreno et al., 2020), and a row's front is the first that this set does not meet,
// found by bisection too (Zhang et al., 2015). So K^2 M / 64 word operations, and K / 8 bytes for a row at a time.
#ifndef EV3X_PARETO_RANKS_PARETO_RANKS_H_
#define EV3X_PARETO_RANKS_PARETO_RANKS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "floats.h"
#include "radix_sort.h"

namespace ev3x::pareto_ranks {

inline constexpr int64_t kRowsAtATime = 2048;  // whose dominators are held: 8 MB of bits at K = 32768

// The objectives of `rows` candidates, and those without NaN by each objective.
struct Table {
  int64_t rows = 0, width = 0, count = 0;
  std::vector<float> values;    // [width, rows], flushed
  std::vector<int32_t> sorted;  // [width, count], rows from the worst, equal ones by index
  const float* column(int64_t m) const { return values.data() + m * rows; }
  const int32_t* by(int64_t m) const { return sorted.data() + m * count; }
};

inline Table tabulate(const float* x, int64_t rows, int64_t width) {
  Table t{rows, width, 0, std::vector<float>(width * rows), {}};
  std::vector<int32_t> valid;
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = x + i * width;
    for (int64_t m = 0; m < width; ++m) t.values[m * rows + i] = flush(row[m]);
    if (std::none_of(row, row + width, [](float v) { return std::isnan(v); })) valid.push_back(static_cast<int32_t>(i));
  }
  t.count = static_cast<int64_t>(valid.size());
  t.sorted.resize(width * t.count);
  std::vector<uint64_t> items(t.count), spare(t.count);  // a key, then a row
  for (int64_t m = 0; m < width; ++m) {
    for (int64_t j = 0; j < t.count; ++j)
      items[j] = uint64_t{to_unsigned_key(t.column(m)[valid[j]])} << 32 | static_cast<uint32_t>(valid[j]);
    const uint64_t* done = radix_sort(items.data(), spare.data(), t.count,
                                      [](uint64_t item) { return static_cast<uint32_t>(item >> 32); });
    for (int64_t j = 0; j < t.count; ++j) t.sorted[m * t.count + j] = static_cast<int32_t>(done[j] & 0xffffffff);
  }
  return t;
}

// The distinct rows in lexicographic order from the best: a row is dominated by earlier ones only.
struct Ordered {
  std::vector<int32_t> first;  // a row of each
  std::vector<int32_t> place;  // [rows] of a row among them, -1 for a row with NaN
};

inline Ordered order(const Table& t) {
  std::vector<int32_t> index(t.by(0), t.by(0) + t.count);
  std::reverse(index.begin(), index.end());
  auto before = [&t](int32_t i, int32_t j) {
    for (int64_t m = 1; m < t.width; ++m)
      if (t.column(m)[i] != t.column(m)[j]) return t.column(m)[i] > t.column(m)[j];
    return false;
  };
  Ordered out;
  out.place.assign(t.rows, -1);
  const float* v = t.column(0);
  for (auto from = index.begin(); from != index.end();) {  // rows of one first objective
    const auto to = std::find_if(from, index.end(), [&](int32_t i) { return v[i] != v[*from]; });
    if (to - from > 1) std::sort(from, to, before);
    for (auto i = from; i != to; ++i) {
      if (i == from || before(*(i - 1), *i)) out.first.push_back(*i);
      out.place[*i] = static_cast<int32_t>(out.first.size()) - 1;
    }
    from = to;
  }
  return out;
}

// Of two objectives: a row is dominated by a front exactly if the front's best second objective so far is no less.
inline std::vector<int32_t> staircase(const Table& t, const Ordered& all) {
  const auto count = static_cast<int64_t>(all.first.size());
  std::vector<int32_t> rank(count);
  std::vector<float> best;  // per front; never rises from one front to the next
  for (int64_t i = 0; i < count; ++i) {
    const float second = t.width > 1 ? t.column(1)[all.first[i]] : 0;
    const auto front = std::partition_point(best.begin(), best.end(), [second](float b) { return b >= second; });
    rank[i] = static_cast<int32_t>(front - best.begin());
    if (front == best.end())
      best.push_back(second);
    else
      *front = second;
  }
  return rank;
}

// The members of a front as bits, from the word of the first member on.
struct Front {
  int64_t from;
  std::vector<uint64_t> words;
  void add(int64_t i) {
    words.resize(i / 64 - from + 1);
    words.back() |= uint64_t{1} << (i % 64);
  }
  bool meets(const uint64_t* bits) const {
    const auto size = static_cast<int64_t>(words.size());
    bits += from;
    int64_t w = 0;
    for (; w + 8 <= size; w += 8) {
      uint64_t any = 0;
#pragma omp simd reduction(| : any)
      for (int64_t j = 0; j < 8; ++j) any |= bits[w + j] & words[w + j];
      if (any) return true;
    }
    for (; w < size; ++w)
      if (bits[w] & words[w]) return true;
    return false;
  }
};

// Of any number of objectives. The first is at least as good for all earlier rows, by their order.
inline std::vector<int32_t> intersections(const Table& t, const Ordered& all) {
  const auto count = static_cast<int64_t>(all.first.size()), stride = (count + 63) / 64;
  std::vector<int32_t> rank(count);
  std::vector<uint64_t> seen(stride), held(std::min(count, kRowsAtATime) * stride);
  std::vector<Front> fronts;
  for (int64_t begin = 0; begin < count; begin += kRowsAtATime) {
    const int64_t end = std::min(count, begin + kRowsAtATime);
    for (int64_t m = 1; m < t.width; ++m) {
      const int32_t* sorted = t.by(m);
      const float* v = t.column(m);
      std::fill(seen.begin(), seen.end(), 0);
      for (int64_t from = t.count - 1, to = from; from >= 0; from = to) {  // rows of one value, from the best
        for (; to >= 0 && v[sorted[to]] == v[sorted[from]]; --to) {
          const int32_t i = all.place[sorted[to]];
          seen[i / 64] |= uint64_t{1} << (i % 64);
        }
        for (int64_t s = from; s > to; --s) {
          const int64_t i = all.place[sorted[s]];
          if (i < begin || i >= end) continue;
          uint64_t* bits = held.data() + (i - begin) * stride;
          const uint64_t* good = seen.data();
          const int64_t words = i / 64 + 1;
          if (m == 1) {
            std::copy(good, good + words, bits);
          } else {
#pragma omp simd
            for (int64_t w = 0; w < words; ++w) bits[w] &= good[w];
          }
        }
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      // Later rows in the last word are in no front yet, and a front has no words beyond the last row's.
      const uint64_t* bits = held.data() + (i - begin) * stride;
      const auto front =
          std::partition_point(fronts.begin(), fronts.end(), [bits](const Front& f) { return f.meets(bits); });
      rank[i] = static_cast<int32_t>(front - fronts.begin());
      if (front == fronts.end())
        fronts.push_back({i / 64, {uint64_t{1} << (i % 64)}});
      else
        front->add(i);
    }
  }
  return rank;
}

// rank[rows]; rows with NaN get `rows`.
inline void rank_rows(const Table& t, int32_t* rank) {
  const Ordered all = order(t);
  const std::vector<int32_t> fronts = t.width <= 2 ? staircase(t, all) : intersections(t, all);
  for (int64_t i = 0; i < t.rows; ++i) rank[i] = all.place[i] < 0 ? static_cast<int32_t>(t.rows) : fronts[all.place[i]];
}

// distance[rows] from the ranks: in every objective, the gap between a row's two neighbours in its front over the
// front's range, equal values in the order of their indices; infinity for the first and the last.
inline void crowd_rows(const Table& t, const int32_t* rank, float* distance) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  struct Walk {
    int32_t last = -1, before = -1;  // the members met last
    float low = 0, range = 0;        // of the whole front
  };
  std::fill(distance, distance + t.rows, 0.0f);
  int32_t fronts = 0;
  for (int64_t j = 0; j < t.count; ++j) fronts = std::max(fronts, rank[t.by(0)[j]] + 1);
  std::vector<Walk> walks(fronts);
  for (int64_t m = 0; m < t.width; ++m) {
    const float* v = t.column(m);
    const int32_t* sorted = t.by(m);
    std::fill(walks.begin(), walks.end(), Walk{});
    for (int64_t j = 0; j < t.count; ++j) {
      Walk& w = walks[rank[sorted[j]]];
      if (w.last < 0) w.low = v[sorted[j]];
      w.last = sorted[j];
    }
    for (Walk& w : walks) {
      distance[w.last] = kInfinity;
      w.range = flush(v[w.last] - w.low);
      if (!(w.range > 0 && w.range < kInfinity)) w.range = 0;
      w.last = -1;
    }
    for (int64_t j = 0; j < t.count; ++j) {
      const int32_t i = sorted[j];
      Walk& w = walks[rank[i]];
      if (w.last < 0) {
        distance[i] = kInfinity;
      } else if (w.before >= 0 && w.range > 0) {
        distance[w.last] += flush(v[i] - v[w.before]) / w.range;
      }
      w.before = std::exchange(w.last, i);
    }
  }
}

}  // namespace ev3x::pareto_ranks

#endif  // EV3X_PARETO_RANKS_PARETO_RANKS_H_
