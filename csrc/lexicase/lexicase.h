// The arithmetic of lexicase, free of XLA and of threads: thresholds, random numbers, and one parent's tournament.
//
// All candidates meet the first case of a tournament, whichever it is, so what each case would leave of them is worked
// out once; tournaments then go on with short lists. Cases are drawn one at a time (Fisher and Yates), for most
// tournaments are over after a few. Random numbers are hashes of (seeds, parent, draw): no state, no order.
#ifndef EV3X_LEXICASE_LEXICASE_H_
#define EV3X_LEXICASE_LEXICASE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "floats.h"

namespace ev3x::lexicase {

// A bijection of 32 bits with little bias ("lowbias32" of C. Wellons' hash prospector, revised constants).
inline uint32_t mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x = (x ^ (x >> 15)) * 0xd35a2d97u;
  return x ^ (x >> 15);
}

struct Seeds {
  uint32_t a, b;
  uint32_t parent(int64_t p) const { return mix(mix(static_cast<uint32_t>(p) ^ a) + b); }
  uint32_t draw(int64_t t) const { return mix(mix(static_cast<uint32_t>(t) ^ b ^ 0x9e3779b9u) + a); }
};

inline uint32_t below(uint32_t random, int64_t n) { return random % static_cast<uint32_t>(n); }

// NaN loses.
inline float clean(float score) { return std::isnan(score) ? -std::numeric_limits<float>::infinity() : flush(score); }

// The lowest score that passes beside `best`.
inline float threshold(float best, float epsilon) { return std::isinf(best) ? best : flush(best - epsilon); }

inline int32_t count_to(const int32_t* keys, int32_t n, int32_t bar) {
  int32_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int32_t i = 0; i < n; ++i) count += keys[i] <= bar;
  return count;
}

// Bisection of the keys' range, in passes that vectorise; keys outside of what is left of it are dropped now and then.
// `held` is scratch for n keys.
inline float median(const int32_t* keys, int32_t n, int32_t* held) {
  int32_t least = keys[0], high = keys[0];
#pragma omp simd reduction(min : least) reduction(max : high)
  for (int32_t i = 0; i < n; ++i) {
    least = std::min(least, keys[i]);
    high = std::max(high, keys[i]);
  }
  int32_t low = least, below = 0, up_to = n;  // of all keys, how many are below `low`, and up to `high`
  const int32_t* pool = keys;
  int32_t size = n, dropped = 0;  // of the pool, and below it
  while (low < high) {
    if (up_to - below < size / 4) {
      const auto width = static_cast<uint32_t>(high) - static_cast<uint32_t>(low);
      int32_t kept = 0;
      for (int32_t i = 0; i < size; ++i) {
        const int32_t key = held[kept] = pool[i];
        kept += static_cast<uint32_t>(key) - static_cast<uint32_t>(low) <= width;
      }
      pool = held;
      size = kept;
      dropped = below;
    }
    const auto middle = static_cast<int32_t>((int64_t{low} + high) >> 1);
    const int32_t count = dropped + count_to(pool, size, middle);
    if (count > n / 2) {
      high = middle;
      up_to = count;
    } else {
      low = middle + 1;
      below = count;
    }
  }
  int32_t before = low;  // the one before the upper middle
  if (n % 2 == 0 && below == n / 2) {
    before = least;
#pragma omp simd reduction(max : before)
    for (int32_t i = 0; i < n; ++i) before = keys[i] < low ? std::max(before, keys[i]) : before;
  }
  return flush(flush(0.5f * from_key(before)) + flush(0.5f * from_key(low)));
}

// Median absolute deviation of the finite ones among scores[0:n]; 0 if there is none. `held` is scratch.
inline float deviation(const float* scores, int64_t n, std::vector<int32_t>& held) {
  held.resize(2 * n);
  int32_t* spare = held.data() + n;
  int32_t finite = 0;
  for (int64_t i = 0; i < n; ++i) {
    held[finite] = to_key(scores[i]);
    finite += std::isfinite(scores[i]);
  }
  if (finite == 0) return 0;
  const float centre = median(held.data(), finite, spare);
  for (int32_t i = 0; i < finite; ++i) held[i] = to_key(flush(std::fabs(from_key(held[i]) - centre)));
  return median(held.data(), finite, spare);
}

// The eligible candidates' clean scores by case, and what each case alone leaves of them (places, ascending).
struct Field {
  int64_t count = 0, cases = 0, stride = 0;  // of a case; no power of two: cache sets
  std::vector<int32_t> candidates;           // [count], ascending
  std::unique_ptr<float[]> scores;           // [cases, stride]
  std::vector<float> epsilon;                // [cases]
  std::unique_ptr<int32_t[]> left;           // [cases, stride], of which
  std::vector<int32_t> left_count;           // [cases]
  float* row(int64_t c) const { return scores.get() + c * stride; }
  int32_t* rest(int64_t c) const { return left.get() + c * stride; }
};

inline Field field(const uint8_t* eligible, int64_t candidates, int64_t cases) {
  Field f;
  f.cases = cases;
  for (int64_t k = 0; k < candidates; ++k)
    if (eligible[k]) f.candidates.push_back(static_cast<int32_t>(k));
  f.count = static_cast<int64_t>(f.candidates.size());
  f.stride = (f.count | 15) + 18;
  f.scores = std::make_unique_for_overwrite<float[]>(cases * f.stride);
  f.left = std::make_unique_for_overwrite<int32_t[]>(cases * f.stride);
  f.epsilon.resize(cases);
  f.left_count.resize(cases);
  return f;
}

// Those of pool[0:n] that pass on scores, in their order, to `out`, which may be the pool; null is everybody.
inline int64_t pass(const float* scores, float epsilon, const int32_t* pool, int64_t n, int32_t* out) {
  float best = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) best = std::max(best, scores[pool ? pool[i] : i]);
  const float bar = threshold(best, epsilon);
  int64_t passed = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto place = pool ? pool[i] : static_cast<int32_t>(i);
    out[passed] = place;
    passed += scores[place] >= bar;
  }
  return passed;
}

// Fills cases from .. to - 1. A negative epsilon asks for each case's deviation.
inline void prepare(Field& f, const float* scores, int64_t from, int64_t to, float epsilon) {
  for (int64_t i = 0; i < f.count; ++i) {
    const float* row = scores + f.candidates[i] * f.cases;
    for (int64_t c = from; c < to; ++c) f.row(c)[i] = clean(row[c]);
  }
  std::vector<int32_t> held;
  for (int64_t c = from; c < to && f.count; ++c) {
    f.epsilon[c] = epsilon < 0 ? deviation(f.row(c), f.count, held) : epsilon;
    f.left_count[c] = static_cast<int32_t>(pass(f.row(c), f.epsilon[c], nullptr, f.count, f.rest(c)));
  }
}

// Scratch of one thread, the same after a tournament as before it.
struct Scratch {
  std::vector<int32_t> order, touched, pool;
  explicit Scratch(const Field& f) : order(f.cases), pool(f.count) {
    for (int64_t c = 0; c < f.cases; ++c) order[c] = static_cast<int32_t>(c);
  }
};

// The winner of parent p's tournament, -1 if nobody is eligible. draws[t] = seeds.draw(t), t <= cases.
inline int32_t winner(const Field& f, Seeds seeds, const uint32_t* draws, int64_t p, Scratch& s) {
  if (f.count == 0) return -1;
  const uint32_t stream = seeds.parent(p);
  const int32_t* pool = nullptr;
  int64_t n = f.count;
  s.touched.clear();
  for (int64_t t = 0; t < f.cases && n > 1; ++t) {
    const int64_t j = t + below(mix(stream ^ draws[t]), f.cases - t);
    const int32_t c = s.order[j];
    s.order[j] = s.order[t];
    s.touched.push_back(static_cast<int32_t>(j));
    if (t == 0) {
      pool = f.rest(c);
      n = f.left_count[c];
    } else {
      n = pass(f.row(c), f.epsilon[c], pool, n, s.pool.data());
      pool = s.pool.data();
    }
  }
  for (int32_t j : s.touched) s.order[j] = j;
  const int64_t drawn = below(mix(stream ^ draws[f.cases]), n);
  return f.candidates[pool ? pool[drawn] : drawn];
}

}  // namespace ev3x::lexicase

#endif  // EV3X_LEXICASE_LEXICASE_H_
