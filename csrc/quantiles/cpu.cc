// CPU handler of quantiles: tasks are groups of rows. Python has checked the shapes.
#include <algorithm>
#include <vector>

#include "cpu/handler.h"
#include "floats.h"
#include "quantiles/kernels.h"

namespace ev3x::quantiles {
namespace {

constexpr int64_t kPerTask = 8 * 1024, kPerThread = 16 * 1024;  // examples of a row, at ~3 ns each

// Of one thread.
struct Room {
  std::vector<int32_t> keys, other, counts, ends, values;
  std::vector<int64_t> ranks;
  std::vector<Job> jobs;
  Room(int64_t n, size_t wanted)
      : keys(n + 1),
        other(n + 1),
        counts(kBins),
        ends(kBins),
        values(2 * wanted),
        ranks(2 * wanted),
        jobs(2 * wanted) {}
};

// Where a quantile lies among n > 0 numbers in order: `share` of the way from one rank to the next.
struct Place {
  int64_t low, high;
  double share;
};

Place place(double q, int64_t n) {
  const double at = q * static_cast<double>(n - 1);
  const auto low = std::min(static_cast<int64_t>(at), n - 1);
  return {low, std::min(low + 1, n - 1), at - static_cast<double>(low)};
}

// numpy's: exact at both ends, NaN next to infinity wherever that is.
float between(double a, double b, double share) {
  const double way = b - a;
  return flush(static_cast<float>(share >= 0.5 ? b - way * (1 - share) : a + way * share));
}

void row(const float* x, const uint8_t* mask, int64_t n, ffi::Span<const double> q, Room& room, float* quantiles) {
  const int64_t count = kernels().fill(x, mask, n, room.keys.data());
  if (count <= 0) {
    std::fill(quantiles, quantiles + q.size(), std::numeric_limits<float>::quiet_NaN());
    return;
  }
  for (size_t i = 0; i < q.size(); ++i) {
    const Place p = place(q[i], count);
    room.ranks[2 * i] = p.low;
    room.ranks[2 * i + 1] = p.high;
  }
  std::sort(room.ranks.begin(), room.ranks.end());
  const auto distinct = std::unique(room.ranks.begin(), room.ranks.end()) - room.ranks.begin();
  const Scratch scratch{{room.keys.data(), room.other.data()}, room.counts.data(), room.ends.data(), room.jobs.data()};
  kernels().select(scratch, count, room.ranks.data(), distinct, room.values.data());
  auto value = [&](int64_t rank) {
    const auto at = std::lower_bound(room.ranks.begin(), room.ranks.begin() + distinct, rank) - room.ranks.begin();
    return static_cast<double>(from_key(room.values[at]));
  };
  for (size_t i = 0; i < q.size(); ++i) {
    const Place p = place(q[i], count);
    quantiles[i] = between(value(p.low), value(p.high), p.share);
  }
}

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> scores, ffi::RemainingArgs rest,
                  ffi::Span<const double> q, ffi::Result<ffi::Buffer<ffi::F32>> quantiles) {
  const auto shape = scores.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("quantiles: scores of rank < 2");
  const auto mask = optional_mask(rest);
  if (mask.has_error()) return mask.error();
  const int64_t n = shape.back(), rows = leading(shape, 1), candidates = shape[shape.size() - 2];
  if (n > std::numeric_limits<int32_t>::max()) return ffi::Error::InvalidArgument("quantiles: too many examples");
  const float* x = scores.typed_data();
  float* out = quantiles->typed_data();

  const int64_t group = std::max<int64_t>(1, kPerTask / std::max<int64_t>(1, n)), tasks = ceil_div(rows, group);
  const int64_t threads = 1 + rows * n / kPerThread;
  std::vector<Room> rooms;
  for (int64_t w = 0; w < count_workers(pool, tasks, threads); ++w) rooms.emplace_back(n, q.size());
  parallel_for(pool, tasks, threads, [&](int64_t task, int64_t worker) {
    for (int64_t r = task * group; r < std::min(rows, (task + 1) * group); ++r)
      row(x + r * n, *mask ? *mask + r / candidates * n : nullptr, n, q, rooms[worker], out + r * q.size());
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_quantiles, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .RemainingArgs()
                                  .Attr<ffi::Span<const double>>("q")
                                  .Ret<ffi::Buffer<ffi::F32>>());

}  // namespace ev3x::quantiles
