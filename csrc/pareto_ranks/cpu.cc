// CPU handler of pareto_ranks: batch members are tasks, or else the objectives and the tiles of a single one. Python
// has checked the shapes.
#include <vector>

#include "cpu/handler.h"
#include "pareto_ranks/pareto_ranks.h"

namespace ev3x::pareto_ranks {
namespace {

// ~20 ns for a value, and ~2 ns for a tile of dominators in one objective. Within a problem threads meet several times.
constexpr int64_t kNanosecondsThread = 50'000, kNanosecondsWithin = 300'000;
int64_t nanoseconds(int64_t rows, int64_t width) { return rows * width * 20 + rows * rows / kTile * width; }

// `benches` of up to `threads` threads.
void solve(ffi::ThreadPool& pool, int64_t threads, Problem& t, std::vector<Bench>& benches, size_t own, const float* x,
           int32_t* rank, float* distance) {
  const auto bench = [&](int64_t worker) -> Bench& { return benches[own + worker]; };
  begin(t, x);
  parallel_for(pool, t.width, threads, [&](int64_t m, int64_t w) { sort(t, m, bench(w)); });
  order(t, bench(0).kept.get());
  if (t.width <= 2) {
    staircase(t);
  } else {
    parallel_for(pool, t.width - 1, threads, [&](int64_t m) { list_events(t, m + 1); });
    const Kernels& kernel = kernels();
    const Events events{t.events.get(), t.width - 1, t.events_stride, 2 * t.distinct};
    t.planes.bits = 0;
    std::fill_n(t.planes.words, (1 + std::bit_width(static_cast<uint64_t>(t.distinct))) * t.planes.words_each, 0);
    for (int64_t from = 0; from < t.distinct; from += kRowsAtATime) {
      const int64_t to = std::min(t.distinct, from + kRowsAtATime);
      parallel_for(pool, ceil_div(to, kTile), threads, [&](int64_t tile, int64_t w) {
        kernel.gather(events, tile, from, to, bench(w).kept.get(), t.held + tile * t.held_stride);
      });
      kernel.rank(t.held, t.held_stride, from, to, t.planes, t.spare, t.rank.get());
    }
  }
  const int64_t fronts = t.distinct ? 1 + *std::max_element(t.rank.get(), t.rank.get() + t.distinct) : 0;
  parallel_for(pool, t.width, threads, [&](int64_t m, int64_t w) { crowd(t, m, fronts, bench(w).walks.get()); });
  report(t, rank, distance);
}

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> objectives, ffi::Result<ffi::Buffer<ffi::S32>> rank,
                  ffi::Result<ffi::Buffer<ffi::F32>> crowding) {
  const auto shape = objectives.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("pareto_ranks: objectives of rank < 2");
  const int64_t width = shape[shape.size() - 1], rows = shape[shape.size() - 2], batch = leading(shape, 2);
  if (rows == 0 || batch == 0) return ffi::Error::Success();
  const int64_t work = nanoseconds(rows, width);
  const int64_t members = count_workers(pool, batch, 1 + batch * work / kNanosecondsThread);  // at once
  const int64_t within = batch == 1 ? count_workers(pool, rows + width, 1 + work / kNanosecondsWithin) : 1;
  std::vector<Problem> problems;
  std::vector<Bench> benches;
  for (int64_t w = 0; w < members; ++w) problems.emplace_back(rows, width);
  for (int64_t w = 0; w < members * within; ++w) benches.emplace_back(rows);
  parallel_for(pool, batch, members, [&](int64_t b, int64_t w) {
    solve(pool, within, problems[w], benches, w, objectives.typed_data() + b * rows * width,
          rank->typed_data() + b * rows, crowding->typed_data() + b * rows);
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
