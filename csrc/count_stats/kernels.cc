#include "count_stats/count_stats.h"

namespace ev3x::count_stats {
namespace EV3X_ISA {
namespace {

void fill(Block& b, const int32_t* labels, const int32_t* reference, const uint8_t* mask, int64_t n) {
  b.n = n;
  int32_t correct = 0;
#pragma omp simd reduction(+ : correct)
  for (int64_t i = 0; i < n; ++i) {
    const int32_t counts = mask ? -static_cast<int32_t>(mask[i]) : -1;
    b.labels[i] = labels[i];
    b.counts[i] = counts;
    b.right[i] = labels[i] == reference[i] ? counts : 0;
    correct -= b.right[i];
  }
  b.reference_correct = correct;
}

Counts count(const Block& b, const int32_t* __restrict predictions) {
  int32_t correct = 0, both = 0;
#pragma omp simd reduction(+ : correct, both)
  for (int64_t i = 0; i < b.n; ++i) {
    const int32_t same = predictions[i] == b.labels[i] ? -1 : 0;
    correct -= same & b.counts[i];
    both -= same & b.right[i];
  }
  return {correct, both};
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable{fill, count};

}  // namespace EV3X_ISA
}  // namespace ev3x::count_stats
