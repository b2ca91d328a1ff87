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
#include <numeric>
#include <vector>

#include "floats.h"

namespace ev3x::pareto_ranks {

inline constexpr int64_t kRowsAtATime = 2048;  // whose dominators are held: 8 MB of bits at K = 32768

// Rows without NaN, in lexicographic order from the best, and equal rows once. Values stand by objective.
struct Ordered {
  int64_t count = 0;           // distinct rows
  std::vector<int32_t> place;  // [rows] of a row among them, -1 for a row with NaN
  std::vector<float> values;   // [max(objectives, 2), count]
  const float* column(int64_t m) const { return values.data() + m * count; }
};

inline Ordered order(const float* x, int64_t rows, int64_t objectives) {
  std::vector<int32_t> index;
  Ordered out;
  out.place.assign(rows, -1);
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = x + i * objectives;
    if (std::none_of(row, row + objectives, [](float v) { return std::isnan(v); })) index.push_back(i);
  }
  auto compare = [&](int32_t i, int32_t j) {  // > 0 if row i comes first
    for (int64_t m = 0; m < objectives; ++m) {
      const float a = flush(x[i * objectives + m]), b = flush(x[j * objectives + m]);
      if (a != b) return a > b ? 1 : -1;
    }
    return 0;
  };
  std::sort(index.begin(), index.end(), [&](int32_t i, int32_t j) { return compare(i, j) > 0; });
  std::vector<int32_t> first;  // one row of each that are equal
  for (int32_t i : index) {
    if (first.empty() || compare(first.back(), i) != 0) first.push_back(i);
    out.place[i] = static_cast<int32_t>(first.size()) - 1;
  }
  out.count = static_cast<int64_t>(first.size());
  out.values.assign(std::max<int64_t>(objectives, 2) * out.count, 0.0f);  // a missing second objective is constant
  for (int64_t m = 0; m < objectives; ++m)
    for (int64_t i = 0; i < out.count; ++i) out.values[m * out.count + i] = flush(x[first[i] * objectives + m]);
  return out;
}

// Of two objectives: a row is dominated by a front exactly if the front's best second objective so far is no less.
inline std::vector<int32_t> staircase(const Ordered& all) {
  std::vector<int32_t> rank(all.count);
  std::vector<float> best;  // per front; never rises from one front to the next
  const float* second = all.column(1);
  for (int64_t i = 0; i < all.count; ++i) {
    const auto front = std::partition_point(best.begin(), best.end(), [&](float b) { return b >= second[i]; });
    rank[i] = static_cast<int32_t>(front - best.begin());
    if (front == best.end())
      best.push_back(second[i]);
    else
      *front = second[i];
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
inline std::vector<int32_t> intersections(const Ordered& all, int64_t objectives) {
  const int64_t count = all.count, stride = (count + 63) / 64;
  std::vector<int32_t> rank(count), by(count * (objectives - 1));  // by: rows from the best in objective 1, 2, ..
  for (int64_t m = 1; m < objectives; ++m) {
    int32_t* sorted = by.data() + (m - 1) * count;
    std::iota(sorted, sorted + count, 0);
    const float* v = all.column(m);
    std::sort(sorted, sorted + count, [v](int32_t i, int32_t j) { return v[i] > v[j]; });
  }
  std::vector<uint64_t> seen(stride), held(std::min(count, kRowsAtATime) * stride);
  std::vector<Front> fronts;
  for (int64_t begin = 0; begin < count; begin += kRowsAtATime) {
    const int64_t end = std::min(count, begin + kRowsAtATime);
    for (int64_t m = 1; m < objectives; ++m) {
      const int32_t* sorted = by.data() + (m - 1) * count;
      const float* v = all.column(m);
      std::fill(seen.begin(), seen.end(), 0);
      for (int64_t from = 0, to = 0; from < count; from = to) {  // rows of one value
        for (; to < count && v[sorted[to]] == v[sorted[from]]; ++to)
          seen[sorted[to] / 64] |= uint64_t{1} << (sorted[to] % 64);
        for (int64_t s = from; s < to; ++s) {
          const int64_t i = sorted[s];
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
inline void rank_rows(const float* x, int64_t rows, int64_t objectives, int32_t* rank) {
  const Ordered all = order(x, rows, objectives);
  const std::vector<int32_t> fronts = objectives <= 2 ? staircase(all) : intersections(all, objectives);
  for (int64_t i = 0; i < rows; ++i) rank[i] = all.place[i] < 0 ? static_cast<int32_t>(rows) : fronts[all.place[i]];
}

// distance[rows] from the ranks: in every objective, the gap between a row's two neighbours in its front over the
// front's range, equal values in the order of their indices; infinity for the first and the last.
inline void crowd_rows(const float* x, int64_t rows, int64_t objectives, const int32_t* rank, float* distance) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  struct Walk {
    int32_t last, members;  // the member met last, and how many were
    float low, before, high;  // the least value, the one before the last's, the greatest
  };
  std::vector<Walk> walks(rows);  // by front
  struct Entry {
    float value;
    int32_t row;
  };
  std::vector<Entry> sorted;
  sorted.reserve(rows);
  std::fill(distance, distance + rows, 0.0f);
  for (int64_t m = 0; m < objectives; ++m) {
    sorted.clear();
    for (int64_t i = 0; i < rows; ++i)
      if (rank[i] < rows) sorted.push_back({flush(x[i * objectives + m]), static_cast<int32_t>(i)});
    std::sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
      return a.value != b.value ? a.value < b.value : a.row < b.row;
    });
    for (Walk& w : walks) w.members = 0;
    for (const Entry& e : sorted) {
      Walk& w = walks[rank[e.row]];
      if (w.members++ == 0) w.low = e.value;
      w.high = e.value;
    }
    for (Walk& w : walks) w.members = 0;
    for (const Entry& e : sorted) {
      Walk& w = walks[rank[e.row]];
      const float last = w.members ? flush(x[w.last * objectives + m]) : e.value;
      if (w.members == 0) {
        distance[e.row] = kInfinity;
      } else if (w.members > 1) {
        const float range = flush(w.high - w.low);
        if (range > 0 && range < kInfinity) distance[w.last] += flush(e.value - w.before) / range;
      }
      w.before = last;
      w.last = e.row;
      ++w.members;
    }
    for (const Walk& w : walks)
      if (w.members) distance[w.last] = kInfinity;
  }
}

}  // namespace ev3x::pareto_ranks

#endif  // EV3X_PARETO_RANKS_PARETO_RANKS_H_
