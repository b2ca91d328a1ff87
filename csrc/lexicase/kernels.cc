#include "lexicase/kernels.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/lanes.h"
#include "floats.h"

namespace ev3x::lexicase {
namespace EV3X_ISA {
namespace {

constexpr int32_t kLeast = INT32_MIN, kMost = INT32_MAX;  // no float's keys
constexpr float kInfinity = std::numeric_limits<float>::infinity(), kLargest = std::numeric_limits<float>::max();

int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

void fill(int32_t* out, int64_t n, int32_t value) {
  for (int64_t i = 0; i < n; ++i) out[i] = value;
}

typedef int32_t Four __attribute__((vector_size(16)));

// Keys of scores. NaN loses; subnormal numbers are zero.
int32_t clean(float score) { return to_key(score != score ? -kInfinity : flush(score)); }
Four clean(const float* scores) {
  Four bits;
  std::memcpy(&bits, scores, sizeof bits);
  const Four size = bits & 0x7fffffff, key = bits ^ (bits >> 31 & 0x7fffffff);
  const Four not_nan = size <= 0x7f800000, normal = size >= 0x00800000;
  return (key & normal & not_nan) | (to_key(-kInfinity) & ~not_nan);
}

// The least key that passes beside `best`.
int32_t threshold(int32_t best, float epsilon) {
  const float score = from_key(best);
  return std::fabs(score) == kInfinity ? best : to_key(flush(score - epsilon));
}

// The rows candidates[0:count] of scores, turned to columns, for the cases from .. to - 1.
void turn(const Field& f, const float* scores, int64_t from, int64_t to) {
  constexpr int64_t kSide = 4, kAhead = 16, kLine = 16;
  constexpr Four heads{0, 4, 1, 5}, tails{2, 6, 3, 7}, left{0, 1, 4, 5}, right{2, 3, 6, 7};
  int64_t i = 0;
  for (; i + kSide <= f.count; i += kSide) {
    const float* row[kSide];
    for (int64_t r = 0; r < kSide; ++r) {
      row[r] = scores + f.candidates[i + r] * f.cases;
      // A stride of its own, mostly over pages: no hardware foresees that.
      const float* soon = scores + f.candidates[smaller(i + r + kAhead, f.count - 1)] * f.cases;
      for (int64_t c = from; c < to; c += kLine) __builtin_prefetch(soon + c);
    }
    int64_t c = from;
    for (; c + kSide <= to; c += kSide) {
      Four x[kSide];
      for (int64_t r = 0; r < kSide; ++r) x[r] = clean(row[r] + c);
      const Four a = __builtin_shuffle(x[0], x[1], heads), b = __builtin_shuffle(x[2], x[3], heads);
      const Four d = __builtin_shuffle(x[0], x[1], tails), e = __builtin_shuffle(x[2], x[3], tails);
      const Four out[kSide]{__builtin_shuffle(a, b, left), __builtin_shuffle(a, b, right),
                            __builtin_shuffle(d, e, left), __builtin_shuffle(d, e, right)};
      for (int64_t j = 0; j < kSide; ++j) std::memcpy(f.keys + (c + j) * f.stride + i, &out[j], sizeof out[j]);
    }
    for (; c < to; ++c)
      for (int64_t r = 0; r < kSide; ++r) f.keys[c * f.stride + i + r] = clean(row[r][c]);
  }
  for (; i < f.count; ++i)
    for (int64_t c = from; c < to; ++c) f.keys[c * f.stride + i] = clean(scores[f.candidates[i] * f.cases + c]);
  for (int64_t c = from; c < to; ++c) fill(f.keys + c * f.stride + f.count, f.stride - f.count, kLeast);
}

// Keys from `low` to `high` among keys[0:n], in their order and followed by a vector of kMost. n is padded; `out` may
// be the keys.
int32_t keep(const int32_t* keys, int64_t n, int32_t low, int32_t high, int32_t* out) {
  const Lanes least = splat(low), most = splat(high);
  int32_t kept = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const Lanes x = load(keys + i);
    const Mask inside = both(at_least(x, least), at_most(x, most));
    put(out + kept, x, inside);
    kept += count(inside);
  }
  fill(out + kept, kPad, kMost);
  return kept;
}

int32_t count_to(const int32_t* keys, int64_t n, int32_t bar) {
  const Lanes most = splat(bar);
  int32_t total = 0;
  for (int64_t i = 0; i < n; i += kLanes) total += count(at_most(load(keys + i), most));
  return total;
}

struct Two {
  int32_t low, high;
};

Two ends(const int32_t* keys, int64_t n) {
  int32_t low = kMost, high = kLeast;
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t i = 0; i < n; ++i) {
    low = smaller(low, keys[i]);
    high = larger(high, keys[i]);
  }
  return {low, high};
}

// The keys of these ranks among keys[0:n], n <= kPad, padded.
Two ranked(const int32_t* keys, int32_t n, int32_t lower, int32_t upper) {
  int32_t less[kPad] = {}, up_to[kPad] = {};
  for (int32_t j = 0; j < n; ++j) {
    const int32_t key = keys[j];
    for (int64_t i = 0; i < kPad; ++i) {
      less[i] += key < keys[i];
      up_to[i] += key <= keys[i];
    }
  }
  Two found{};
  for (int32_t i = 0; i < n; ++i) {
    if (less[i] <= lower && lower < up_to[i]) found.low = keys[i];
    if (less[i] <= upper && upper < up_to[i]) found.high = keys[i];
  }
  return found;
}

// The two middle ones of keys[0:n], n > 0, padded with kMost; `held` is scratch as large. A bracket is cut in two, and
// keys outside of it are dropped now and then, until few are left. Cuts lie halfway between the ends as floats or,
// where that did little, as integers: so there are not many, whatever the keys.
Two middle(const int32_t* keys, int32_t n, int32_t* held) {
  const int32_t lower = (n - 1) / 2, upper = n / 2;  // ranks
  const int32_t* pool = keys;
  int64_t size = padded(n);
  auto [low, high] = ends(keys, n);
  int32_t below = 0, up_to = n, dropped = 0;  // of all keys, those below `low`, up to `high`, and below the pool
  bool by_float = true, idle = false;
  while (low < high) {
    const int32_t left = up_to - below;
    if (left <= kPad || left < size / 4 || idle) {
      size = padded(keep(pool, size, low, high, held));
      pool = held;
      dropped = below;
      if (left <= kPad) return ranked(pool, left, lower - below, upper - below);
      const Two now = ends(pool, left);
      low = now.low;
      high = now.high;
      if (low == high) break;
    }
    const int32_t half = by_float ? to_key(0.5f * from_key(low) + 0.5f * from_key(high))
                                  : static_cast<int32_t>((int64_t{low} + high) >> 1);
    const int32_t cut = smaller(larger(half, low), high - 1), to_cut = dropped + count_to(pool, size, cut);
    if (to_cut > upper) {
      high = cut;
      up_to = to_cut;
    } else if (to_cut <= lower) {
      low = cut + 1;
      below = to_cut;
    } else {  // between the two
      Two found{kLeast, kMost};
      for (int64_t i = 0; i < size; ++i) {
        found.low = larger(found.low, pool[i] <= cut ? pool[i] : kLeast);
        found.high = smaller(found.high, pool[i] > cut ? pool[i] : kMost);
      }
      return found;
    }
    idle = up_to - below == left;
    by_float = !by_float || up_to - below < left - left / 8;
  }
  return {low, high};
}

float mean(Two keys) { return flush(flush(0.5f * from_key(keys.low)) + flush(0.5f * from_key(keys.high))); }

// Median absolute deviation of the finite ones among a row's keys; 0 if there is none. `held` is scratch for two rows.
float deviation(const int32_t* keys, int64_t n, int64_t stride, int32_t* held) {
  int32_t* spare = held + stride;
  const int32_t finite = keep(keys, padded(n), to_key(-kLargest), to_key(kLargest), held);
  if (finite == 0) return 0;
  const float centre = mean(middle(held, finite, spare));
  for (int32_t i = 0; i < finite; ++i) held[i] = to_key(flush(std::fabs(from_key(held[i]) - centre)));
  return mean(middle(held, finite, spare));
}

// The places of a row's keys that pass among all n, ascending, to `out`.
int32_t pass_all(const int32_t* keys, int64_t n, float epsilon, int32_t* out) {
  const Lanes bar = splat(threshold(ends(keys, n).high, epsilon));
  int32_t passed = 0;
  Lanes place = iota();
  for (int64_t i = 0; i < n; i += kLanes) {
    const Mask passes = at_least(load(keys + i), bar);
    put(out + passed, place, passes);
    passed += count(passes);
    place = add(place, splat(kLanes));
  }
  return passed;
}

// Those of pool[0:n] that pass, in their order, to `out`, which may be the pool.
int32_t pass(const int32_t* keys, float epsilon, const int32_t* pool, int32_t n, int32_t* held, int32_t* out) {
  int32_t best = kLeast;
  for (int32_t i = 0; i < n; ++i) {
    held[i] = keys[pool[i]];
    best = larger(best, held[i]);
  }
  const int32_t bar = threshold(best, epsilon);
  int32_t passed = 0;
  for (int32_t i = 0; i < n; ++i) {
    out[passed] = pool[i];
    passed += held[i] >= bar;
  }
  return passed;
}

void prepare(const Field& f, const float* scores, int64_t from, int64_t to, float epsilon, int32_t* held) {
  turn(f, scores, from, to);
  for (int64_t c = from; c < to && f.count; ++c) {
    const int32_t* keys = f.keys + c * f.stride;
    f.epsilon[c] = epsilon < 0 ? deviation(keys, f.count, f.stride, held) : epsilon;
    f.left_count[c] = pass_all(keys, f.count, f.epsilon[c], f.left + c * f.stride);
  }
}

int32_t winner(const Field& f, const uint32_t* draws, uint32_t stream, const Scratch& s) {
  const int32_t* pool = nullptr;  // everybody
  int32_t n = static_cast<int32_t>(f.count);
  int64_t t = 0;
  for (; t < f.cases && n > 1; ++t) {
    const int64_t j = t + below(mix(stream ^ draws[t]), f.cases - t);
    const int32_t c = s.order[j];
    s.order[j] = s.order[t];
    s.touched[t] = static_cast<int32_t>(j);
    if (t == 0) {
      pool = f.left + c * f.stride;
      n = f.left_count[c];
    } else {
      n = pass(f.keys + c * f.stride, f.epsilon[c], pool, n, s.held, s.pool);
      pool = s.pool;
    }
  }
  while (t > 0) {
    const int32_t j = s.touched[--t];
    s.order[j] = j;
  }
  const int64_t drawn = below(mix(stream ^ draws[f.cases]), n);
  return f.candidates[pool ? pool[drawn] : drawn];
}

void hold(const Field& f, uint32_t a, uint32_t b, const uint32_t* draws, int64_t from, int64_t to, const Scratch& s,
          int32_t* winners) {
  const Seeds seeds{a, b};
  for (int64_t p = from; p < to; ++p) winners[p] = f.count ? winner(f, draws, seeds.parent(p), s) : -1;
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{prepare, hold};

}  // namespace EV3X_ISA
}  // namespace ev3x::lexicase
