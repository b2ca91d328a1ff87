// CPU handler of lexicase: tasks are groups of cases, then groups of tournaments. Python has checked the shapes.
#include <memory>
#include <vector>

#include "cpu/handler.h"
#include "lexicase/kernels.h"

namespace ev3x::lexicase {
namespace {

constexpr int64_t kScoresPerTask = 16 * 1024, kScoresPerThread = 32 * 1024;  // ~2 ns each with a median
constexpr int64_t kParentsPerTask = 64, kParentsPerThread = 1024;            // ~60 ns each and more

std::unique_ptr<int32_t[]> ints(int64_t n) { return std::make_unique_for_overwrite<int32_t[]>(n); }

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> scores, ffi::Buffer<ffi::U32> seeds,
                  ffi::Buffer<ffi::PRED> eligible, float epsilon, ffi::Result<ffi::Buffer<ffi::S32>> winners) {
  const auto shape = scores.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("lexicase: scores of rank < 2");
  const int64_t cases = shape[shape.size() - 1], candidates = shape[shape.size() - 2];
  const int64_t parents = winners->dimensions().back();
  const int64_t parent_tasks = ceil_div(parents, kParentsPerTask), parent_threads = 1 + parents / kParentsPerThread;
  const int64_t most_threads = std::max(1 + cases * candidates / kScoresPerThread, parent_threads);
  const int64_t workers = count_workers(pool, std::max(cases, parent_tasks), most_threads);

  // One batch member after the other, each in the same memory: enough for all candidates.
  const int64_t stride = stride_of(candidates), each = 2 * cases + 3 * stride;
  const auto present = ints(candidates), keys = ints(cases * stride), left = ints(cases * stride);
  const auto left_count = ints(cases), scratch = ints(workers * each);
  std::vector<float> margins(cases);
  std::vector<uint32_t> draws(cases + 1);
  const auto scratch_of = [&](int64_t worker) {
    int32_t* s = scratch.get() + worker * each;
    return Scratch{s, s + cases, s + 2 * cases, s + 2 * cases + stride};
  };
  for (int64_t w = 0; w < workers; ++w)
    for (int64_t c = 0; c < cases; ++c) scratch_of(w).order[c] = static_cast<int32_t>(c);

  const Kernels& kernel = kernels();
  for (int64_t b = 0; b < leading(shape, 2); ++b) {
    const float* x = scores.typed_data() + b * candidates * cases;
    const bool* allowed = eligible.typed_data() + b * candidates;
    int64_t count = 0;
    for (int64_t k = 0; k < candidates; ++k) {
      present[count] = static_cast<int32_t>(k);
      count += allowed[k];
    }
    const Field f{present.get(), count,      cases,           stride_of(count),
                  keys.get(),    margins.data(), left.get(), left_count.get()};
    const int64_t at_once = std::clamp<int64_t>(kScoresPerTask / std::max<int64_t>(1, count), 1, cases + 1);
    parallel_for(pool, ceil_div(cases, at_once), 1 + cases * count / kScoresPerThread, [&](int64_t task, int64_t w) {
      kernel.prepare(f, x, task * at_once, std::min(cases, (task + 1) * at_once), epsilon, scratch_of(w).held);
    });
    const Seeds seed{seeds.typed_data()[2 * b], seeds.typed_data()[2 * b + 1]};
    for (int64_t t = 0; t <= cases; ++t) draws[t] = seed.draw(t);
    parallel_for(pool, parent_tasks, parent_threads, [&](int64_t task, int64_t w) {
      const int64_t from = task * kParentsPerTask, to = std::min(parents, from + kParentsPerTask);
      kernel.hold(f, seed.a, seed.b, draws.data(), from, to, scratch_of(w), winners->typed_data() + b * parents);
    });
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_lexicase, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::U32>>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
                                  .Attr<float>("epsilon")
                                  .Ret<ffi::Buffer<ffi::S32>>());

}  // namespace ev3x::lexicase
