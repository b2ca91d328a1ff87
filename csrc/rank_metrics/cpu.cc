// CPU handler of rank_metrics: tasks are groups of rows. Python has checked the shapes.
#include <vector>

#include "cpu/handler.h"
#include "rank_metrics/rank_metrics.h"

namespace ev3x::rank_metrics {
namespace {

constexpr int64_t kPerTask = 4 * 1024, kPerThread = 8 * 1024;  // examples of a row, at ~10 ns each

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> scores, ffi::Buffer<ffi::PRED> labels,
                  ffi::Result<ffi::Buffer<ffi::F32>> auroc, ffi::Result<ffi::Buffer<ffi::F32>> average_precision) {
  const auto shape = scores.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("rank_metrics: scores of rank < 2");
  const int64_t n = shape[shape.size() - 1], candidates = shape[shape.size() - 2], rows = leading(shape, 1);
  const float* x = scores.typed_data();
  const auto* y = reinterpret_cast<const uint8_t*>(labels.typed_data());
  const int64_t group = std::max<int64_t>(1, kPerTask / std::max<int64_t>(1, n));
  const int64_t tasks = ceil_div(rows, group), threads = 1 + rows * n / kPerThread;
  std::vector<Scratch> scratch;
  for (int64_t w = 0; w < count_workers(pool, tasks, threads); ++w) scratch.emplace_back(n);
  parallel_for(pool, tasks, threads, [&](int64_t task, int64_t w) {
    for (int64_t r = task * group; r < std::min(rows, (task + 1) * group); ++r) {
      const Metrics m = row(x + r * n, y + r / candidates * n, n, scratch[w]);
      auroc->typed_data()[r] = static_cast<float>(m.auroc);
      average_precision->typed_data()[r] = static_cast<float>(m.average_precision);
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_rank_metrics, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

}  // namespace ev3x::rank_metrics
