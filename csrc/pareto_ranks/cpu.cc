// CPU handler of pareto_ranks: one batch member is one task. Python has checked the shapes.
#include "pareto_ranks/pareto_ranks.h"
#include "handler.h"

namespace ev3x::pareto_ranks {
namespace {



constexpr int64_t kRowsPerThread = 500;  // ~100 ns each and more: what pays for waking a thread

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> objectives, ffi::Result<ffi::Buffer<ffi::S32>> rank,
                  ffi::Result<ffi::Buffer<ffi::F32>> crowding) {
  const auto shape = objectives.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("pareto_ranks: objectives of rank < 2");
  const int64_t width = shape[shape.size() - 1], rows = shape[shape.size() - 2];
  int64_t batch = 1;
  for (size_t i = 0; i + 2 < shape.size(); ++i) batch *= shape[i];
  const float* x = objectives.typed_data();
  int32_t* ranks = rank->typed_data();
  float* distances = crowding->typed_data();
  parallel_for(pool, batch, 1 + batch * rows / kRowsPerThread, [&](int64_t b) {
    const Table table = tabulate(x + b * rows * width, rows, width);
    rank_rows(table, ranks + b * rows);
    crowd_rows(table, ranks + b * rows, distances + b * rows);
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_pareto_ranks, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

}  // namespace ev3x::pareto_ranks
