#include "count_stats/count_stats.h"
#include "cpu/simd.h"

namespace ev3x::count_stats {
namespace EV3X_ISA {
namespace {

using Ints = Vector<int32_t>;

template <bool masked>
void fill_block(Block& b, const int32_t* reference, const uint8_t* mask) {
  Ints correct{};
  int32_t rest = 0;
  int64_t i = 0;
  for (; i + kFloats <= b.n; i += kFloats) {
    Ints right = load_as<Ints>(b.labels + i) == load_as<Ints>(reference + i);
    if constexpr (masked) {
      const Ints counts = -widened(mask + i);
      std::memcpy(b.counts + i, &counts, sizeof counts);
      right &= counts;
    }
    std::memcpy(b.right + i, &right, sizeof right);
    correct -= right;
  }
  for (; i < b.n; ++i) {
    if constexpr (masked) b.counts[i] = -static_cast<int32_t>(mask[i]);
    b.right[i] = b.labels[i] == reference[i] && (!masked || mask[i]) ? -1 : 0;
    rest -= b.right[i];
  }
  b.reference_correct = rest + total(correct);
}

void fill(Block& b, const int32_t* labels, const int32_t* reference, const uint8_t* mask, int64_t n) {
  b.n = n;
  b.masked = mask;
  b.labels = labels;
  mask ? fill_block<true>(b, reference, mask) : fill_block<false>(b, reference, mask);
}

template <bool masked>
Counts count_block(const Block& b, const int32_t* predictions) {
  Ints correct{}, both{};
  Counts rest;
  int64_t i = 0;
  for (; i + kFloats <= b.n; i += kFloats) {
    const Ints same = load_as<Ints>(predictions + i) == load_as<Ints>(b.labels + i);
    correct -= masked ? same & load_as<Ints>(b.counts + i) : same;
    both -= same & load_as<Ints>(b.right + i);
  }
  for (; i < b.n; ++i) {
    const int32_t same = predictions[i] == b.labels[i] ? -1 : 0;
    rest.correct -= masked ? same & b.counts[i] : same;
    rest.both -= same & b.right[i];
  }
  return {rest.correct + total(correct), rest.both + total(both)};
}

Counts count(const Block& b, const int32_t* predictions) {
  return b.masked ? count_block<true>(b, predictions) : count_block<false>(b, predictions);
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{fill, count};

}  // namespace EV3X_ISA
}  // namespace ev3x::count_stats
