// Lexicase tournaments, free of XLA and of Python. `definition` in ev3x_lexicase/shares.py says the same in jnp;
// votes are integers, so that both give the same bits, whatever the order of their sums.
#ifndef EV3X_LEXICASE_SHARES_H_
#define EV3X_LEXICASE_SHARES_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>

namespace ev3x_lexicase {

inline constexpr uint32_t kVotes = 1u << 16;   // that a tournament hands out
inline constexpr uint32_t kMost = kVotes - 1;  // tournaments: all their votes fit in 32 bits

struct Words {
  uint32_t a, b;
};

// jax.random.fold_in: Threefry-2x32 with 20 rounds (Salmon et al. 2011) of the counter (0, data).
inline Words fold_in(Words key, uint32_t data) {
  constexpr int kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const uint32_t keys[3] = {key.a, key.b, key.a ^ key.b ^ 0x1bd11bdau};
  Words x{keys[0], data + keys[1]};
  for (uint32_t group = 0; group < 5; ++group) {
    for (const int rotation : kRotations[group % 2]) {
      x.a += x.b;
      x.b = std::rotl(x.b, rotation) ^ x.a;
    }
    x.a += keys[(group + 1) % 3];
    x.b += keys[(group + 2) % 3] + group + 1;
  }
  return x;
}

// Subnormal numbers made zero: XLA may or may not do so.
inline float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f : x; }

// The least score that passes beside `best`.
inline float bar(float best, float margin) { return flush(best - margin); }

// One problem, and memory to solve it in.
struct Field {
  const float* scores;   // [candidates, cases], no NaN
  const bool* eligible;  // [candidates]
  const bool* counts;    // [cases]
  int64_t candidates, cases;
  uint32_t *order, *drawn;  // [cases] each
  uint32_t* pool;           // [candidates]
  float* margins;           // [cases], finite and not negative
  float* column;            // [candidates]

  const float* row(int64_t candidate) const { return scores + candidate * cases; }
};

// Of values[0:count], count > 0, which are left in another order.
inline float median(float* values, int64_t count) {
  float* middle = values + count / 2;
  std::nth_element(values, middle, values + count);
  const float low = count % 2 ? *middle : *std::max_element(values, middle);
  return flush(flush(0.5f * low) + flush(0.5f * *middle));
}

// The median absolute deviation of the finite scores of eligible candidates on a case; 0 without any.
inline float deviation(const Field& f, int64_t c) {
  int64_t count = 0;
  for (int64_t k = 0; k < f.candidates; ++k)
    if (f.eligible[k] && std::isfinite(f.row(k)[c])) f.column[count++] = f.row(k)[c];
  if (count == 0) return 0.0f;
  const float centre = median(f.column, count);
  // No number is infinitely far from another: a distance of the largest ones is cut off.
  for (int64_t j = 0; j < count; ++j)
    f.column[j] = std::min(flush(std::fabs(f.column[j] - centre)), std::numeric_limits<float>::max());
  return median(f.column, count);
}

// Of two that are left the next case on which they are apart decides, and each such case is as likely to come first:
// so the first one's share is known without drawing. Rounded to whole votes.
inline uint32_t duel(const Field& f, uint32_t first, uint32_t second) {
  const float *a = f.row(first), *b = f.row(second);
  int32_t wins = 0, losses = 0;
  for (int64_t c = 0; c < f.cases; ++c) {
    wins += f.counts[c] & (b[c] < bar(a[c], f.margins[c]));
    losses += f.counts[c] & (a[c] < bar(b[c], f.margins[c]));
  }
  if (wins + losses == 0) return kVotes / 2;
  const float share = static_cast<float>(wins) / static_cast<float>(wins + losses);
  return static_cast<uint32_t>(std::floor(kVotes * share + 0.5f));
}

// Lays the cases that count into f.order, shuffled, and returns how many there are.
inline uint32_t shuffle(const Field& f, Words key) {
  uint32_t counted = 0;
  for (uint32_t c = 0; c < f.cases; ++c) {
    f.drawn[c] = fold_in(key, kVotes + c).b;  // tournaments have the numbers below
    if (f.counts[c]) f.order[counted++] = c;
  }
  std::sort(f.order, f.order + counted,
            [&](uint32_t c, uint32_t d) { return std::tie(f.drawn[c], c) < std::tie(f.drawn[d], d); });
  return counted;
}

// Adds the votes of all tournaments to votes[candidates]. A negative epsilon asks for each case's deviation.
inline void hold(const Field& f, Words key, uint32_t tournaments, float epsilon, uint32_t* votes) {
  for (int64_t c = 0; c < f.cases; ++c) f.margins[c] = epsilon < 0 ? deviation(f, c) : epsilon;
  const uint32_t counted = shuffle(f, key);

  for (uint32_t i = 0; i < tournaments; ++i) {
    const Words stream = fold_in(key, i);
    uint32_t size = 0;
    for (uint32_t k = 0; k < f.candidates; ++k)
      if (f.eligible[k]) f.pool[size++] = k;

    // The shuffle of Fisher and Yates, as far as it is needed. First cases are taken in turn.
    uint32_t t = 0;
    for (; t < counted && size > 2; ++t) {
      f.drawn[t] = t + (t ? fold_in(stream, t).b : i) % (counted - t);
      std::swap(f.order[t], f.order[f.drawn[t]]);
      const uint32_t c = f.order[t];
      float best = f.row(f.pool[0])[c];
      for (uint32_t j = 1; j < size; ++j) best = std::max(best, f.row(f.pool[j])[c]);
      const float least = bar(best, f.margins[c]);
      uint32_t* end = std::remove_if(f.pool, f.pool + size, [&](uint32_t k) { return f.row(k)[c] < least; });
      size = static_cast<uint32_t>(end - f.pool);
    }
    while (t-- > 0) std::swap(f.order[t], f.order[f.drawn[t]]);  // as it was before

    if (size == 2) {
      const uint32_t first = duel(f, f.pool[0], f.pool[1]);
      votes[f.pool[0]] += first;
      votes[f.pool[1]] += kVotes - first;
    } else {
      for (uint32_t j = 0; j < size; ++j) votes[f.pool[j]] += kVotes / size;
    }
  }
}

}  // namespace ev3x_lexicase

#endif  // EV3X_LEXICASE_SHARES_H_
