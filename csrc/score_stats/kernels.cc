#include "score_stats/kernels.h"

#include "cpu/simd.h"

namespace ev3x::score_stats {
namespace EV3X_ISA {
namespace {

constexpr int64_t kBlock = 4096;        // 2 x 16 KiB of operands stay in L1
constexpr int64_t kShiftSamples = 128;  // (mean - shift)^2 <= 31 * variance within the first block: 5 bits at most
constexpr double kShare = 0.125;        // of a block's weight, for the mean so far to be its shift

float widen(float x) { return x; }
float widen(uint8_t x) { return x; }
float widen(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

Floats load(const BFloat16* x) {
  const auto bits = widened(&x->bits) << 16;
  return load_as<Floats>(&bits);
}
using ev3x::load;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A first block's shift, in double: equal values give exactly that value, hence a variance of exactly zero.
template <class T>
float sample(const T* x, int64_t n) {
  const int64_t m = smaller(n, kShiftSamples);
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < m; ++i) sum += widen(x[i]);
  return static_cast<float>(sum / static_cast<double>(m));
}

struct Shifts {
  float own, difference;
};

// Sums of w, w*a, w*a^2, w*b and w*b^2 with a = x - shift and b = (x - y) - shift, in as many lanes as V has.
template <class V>
struct Sums {
  V w{}, a{}, aa{}, b{}, bb{};

  void add(V x, V y, Shifts shift) {
    const V own = x - shift.own, difference = (x - y) - shift.difference;
    a += own;
    aa += own * own;
    b += difference;
    bb += difference * difference;
  }

  // The compare keeps what is not finite out where the weight is 0.
  void add(V x, V y, V weight, Shifts shift) {
    const V own = weight > 0 ? x - shift.own : V{}, difference = weight > 0 ? (x - y) - shift.difference : V{};
    const V weighted_own = weight * own, weighted_difference = weight * difference;
    w += weight;
    a += weighted_own;
    aa += weighted_own * own;
    b += weighted_difference;
    bb += weighted_difference * difference;
  }
};

// x[0:n] and x - y around the shifts; w is null without weights.
template <class T>
Pair block(const T* __restrict x, const T* __restrict y, const float* __restrict w, Shifts shift, int64_t n) {
  Sums<Floats> even, odd;  // two chains of additions under way
  Sums<float> rest;
  int64_t i = 0;
  if (w) {
    for (; i + 2 * kFloats <= n; i += 2 * kFloats) {
      even.add(load(x + i), load(y + i), load(w + i), shift);
      odd.add(load(x + i + kFloats), load(y + i + kFloats), load(w + i + kFloats), shift);
    }
    for (; i < n; ++i) rest.add(widen(x[i]), widen(y[i]), w[i], shift);
  } else {
    for (; i + 2 * kFloats <= n; i += 2 * kFloats) {
      even.add(load(x + i), load(y + i), shift);
      odd.add(load(x + i + kFloats), load(y + i + kFloats), shift);
    }
    for (; i < n; ++i) rest.add(widen(x[i]), widen(y[i]), shift);
  }
  const auto sum = [](Floats a, Floats b, float c) { return static_cast<double>(total(a + b)) + c; };
  const double weight = w ? sum(even.w, odd.w, rest.w) : static_cast<double>(n);
  return {unshift(weight, shift.own, sum(even.a, odd.a, rest.a), sum(even.aa, odd.aa, rest.aa)),
          unshift(weight, shift.difference, sum(even.b, odd.b, rest.b), sum(even.bb, odd.bb, rest.bb))};
}

Shifts means(const Pair& p) { return {static_cast<float>(p.own.mean), static_cast<float>(p.difference.mean)}; }

// Later blocks are summed around the mean so far: what that is off by is part of the whole variance, of which
// rounding then is a small share.
template <class T>
Pair plain(const T* x, const T* y, int64_t n) {
  if (n == 0) return {};
  const float own = sample(x, n);
  Shifts shift{own, own - sample(y, n)};
  Pair sum;
  for (int64_t i = 0; i < n; i += kBlock) {
    sum = merge(sum, block(x + i, y + i, nullptr, shift, smaller(kBlock, n - i)));
    shift = means(sum);
  }
  return sum;
}

// While little weight has been read, a block is read twice, first for its own mean: no few examples could stand for it.
template <class T>
Pair weighted(const T* x, const T* y, const float* w, int64_t n) {
  Pair sum;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t size = smaller(kBlock, n - i);
    Pair next = block(x + i, y + i, w + i, means(sum), size);
    if (sum.own.weight < kShare * next.own.weight) next = block(x + i, y + i, w + i, means(next), size);
    sum = merge(sum, next);
  }
  return sum;
}

// Counts, hence exact: a byte lane holds 255 additions of 0 or 1.
Pair plain_bool(const uint8_t* __restrict x, const uint8_t* __restrict y, int64_t n) {
  int64_t xs = 0, ys = 0, boths = 0, i = 0;
  while (n - i >= kVectorBytes) {
    Bytes sx{}, sy{}, sb{};
    for (const int64_t end = i + smaller(255, (n - i) / kVectorBytes) * kVectorBytes; i < end; i += kVectorBytes) {
      const auto a = load_as<Bytes>(x + i), b = load_as<Bytes>(y + i);
      sx += a;
      sy += b;
      sb += a & b;
    }
    xs += total(sx);
    ys += total(sy);
    boths += total(sb);
  }
  for (; i < n; ++i) {
    xs += x[i];
    ys += y[i];
    boths += x[i] & y[i];
  }
  return count(n, xs, ys, boths);
}

Weight weigh(const float* w, int64_t n) {
  double sum = 0, square = 0;
  int64_t examples = 0;
#pragma omp simd reduction(+ : sum, square, examples)
  for (int64_t i = 0; i < n; ++i) {
    const double wide = w[i];
    sum += wide;
    square += wide * wide;
    examples += w[i] > 0;
  }
  return {sum, square, examples};
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{{plain<float>, weighted<float>},
                     {plain<BFloat16>, weighted<BFloat16>},
                     {plain_bool, weighted<uint8_t>},
                     weigh};

}  // namespace EV3X_ISA
}  // namespace ev3x::score_stats
