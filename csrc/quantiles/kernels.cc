// Selection by counting: keys go to bins by the leading bits of what they are above the least one, counts say in which
// bins the wanted ranks lie, and the keys of these alone go on. No data make it slow: each pass takes bits off the
// range.
#include "quantiles/kernels.h"

#include <cstring>

namespace ev3x::quantiles {
namespace EV3X_ISA {
namespace {

constexpr int64_t kFew = 32;  // are sorted

// As floats.h has it, in operations that vectorise.
int32_t key_of(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits & 0x7fffffff) < 0x00800000 ? 0 : bits;  // subnormal numbers and -0
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

int64_t fill(const float* __restrict x, const uint8_t* mask, int64_t n, int32_t* __restrict keys) {
  int32_t spoilt = 0;
  int64_t kept = mask ? 0 : n;
  if (mask) {
    for (int64_t i = 0; i < n; ++i) {
      keys[kept] = key_of(x[i]);
      kept += mask[i];
      spoilt |= mask[i] & static_cast<int32_t>(x[i] != x[i]);
    }
  } else {
#pragma omp simd reduction(| : spoilt)
    for (int64_t i = 0; i < n; ++i) {
      keys[i] = key_of(x[i]);
      spoilt |= x[i] != x[i];
    }
  }
  return spoilt ? -1 : kept;
}

void sort(int32_t* keys, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const int32_t key = keys[i];
    int64_t at = i;
    for (; at > 0 && keys[at - 1] > key; --at) keys[at] = keys[at - 1];
    keys[at] = key;
  }
}

struct Bins {
  uint32_t least;
  int shift;
  int32_t number;
  uint32_t of(int32_t key) const { return (static_cast<uint32_t>(key) - least) >> shift; }
};

Bins divide(const int32_t* keys, int64_t n) {
  int32_t low = keys[0], high = keys[0];
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t i = 0; i < n; ++i) {
    low = keys[i] < low ? keys[i] : low;
    high = keys[i] > high ? keys[i] : high;
  }
  uint32_t most = kBins;  // fewer for few keys: each is cleared and added up
  while (most > 64 && most > n / 4) most /= 2;
  const uint32_t width = static_cast<uint32_t>(high) - static_cast<uint32_t>(low);
  int shift = 0;
  while (width >> shift >= most) ++shift;
  return {static_cast<uint32_t>(low), shift, static_cast<int32_t>(width >> shift) + 1};
}

void select(const Scratch& s, int64_t n, const int64_t* ranks, int64_t number, int32_t* values) {
  int64_t waiting = 0;
  if (number) s.jobs[waiting++] = {0, 0, n, 0, 0, number};
  while (waiting) {
    const Job job = s.jobs[--waiting];
    int32_t *keys = s.lists[job.side] + job.at, *other = s.lists[1 - job.side];
    if (job.n <= kFew) {
      sort(keys, job.n);
      for (int64_t i = job.first; i < job.last; ++i) values[i] = keys[ranks[i] - job.before];
      continue;
    }
    const Bins bins = divide(keys, job.n);
    std::memset(s.counts, 0, bins.number * sizeof *s.counts);
    for (int64_t i = 0; i < job.n; ++i) ++s.counts[bins.of(keys[i])];

    int64_t before = job.before, at = job.at, i = job.first;
    for (int32_t b = 0; b < bins.number; ++b) {
      const int64_t count = s.counts[b], first = i;
      while (i < job.last && ranks[i] < before + count) values[i++] = static_cast<int32_t>(bins.least + b);
      const bool wanted = i > first;
      if (wanted && bins.shift) {
        s.jobs[waiting++] = {1 - job.side, at, count, before, first, i};
        s.ends[b] = static_cast<int32_t>(at);
        at += count;
      } else {
        s.ends[b] = static_cast<int32_t>(n);  // takes any, and keeps none
      }
      s.counts[b] = wanted;
      before += count;
    }
    for (int64_t k = 0; bins.shift && k < job.n; ++k) {
      const uint32_t b = bins.of(keys[k]);
      other[s.ends[b]] = keys[k];
      s.ends[b] += s.counts[b];
    }
  }
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{fill, select};

}  // namespace EV3X_ISA
}  // namespace ev3x::quantiles
