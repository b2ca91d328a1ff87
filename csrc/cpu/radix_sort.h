// Sorting by 32-bit keys in three passes, one per digit of 11 bits, or in four of 8 bits where numbers are few.
#ifndef EV3X_RADIX_SORT_H_
#define EV3X_RADIX_SORT_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace ev3x {

template <int kDigit, int kDigits, class T, class Key>
T* radix_sort_by(T* items, T* spare, int64_t n, Key key) {
  constexpr uint32_t kMask = (1u << kDigit) - 1;
  std::array<std::array<int32_t, 1u << kDigit>, kDigits> places{};
  for (int64_t i = 0; i < n; ++i)
    for (int d = 0; d < kDigits; ++d) ++places[d][key(items[i]) >> (d * kDigit) & kMask];
  for (int d = 0; d < kDigits; ++d) {
    std::array<int32_t, 1u << kDigit>& place = places[d];
    const int shift = d * kDigit;
    if (place[key(items[0]) >> shift & kMask] == n) continue;  // all alike in this digit
    int32_t before = 0;
    for (int32_t& p : place) before += std::exchange(p, before);
    for (int64_t i = 0; i < n; ++i) spare[place[key(items[i]) >> shift & kMask]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

// Sorts items[0:n] by key(item), a uint32_t, with the help of spare[0:n]; returns whichever of the two then holds them.
// Items of one key stay in their order, in which they must already ascend (by <, as by key otherwise).
template <class T, class Key>
T* radix_sort(T* items, T* spare, int64_t n, Key key) {
  constexpr int64_t kFrom = 128, kWide = 4096;  // fewer do not pay for the histograms
  if (n < kFrom) {
    std::sort(items, items + n);
    return items;
  }
  return n < kWide ? radix_sort_by<8, 4>(items, spare, n, key) : radix_sort_by<11, 3>(items, spare, n, key);
}

}  // namespace ev3x

#endif  // EV3X_RADIX_SORT_H_
