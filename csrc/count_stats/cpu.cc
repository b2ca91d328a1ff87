// CPU handlers of count_stats: a task is a stretch of examples for all candidates. Python has checked the shapes.
#include <algorithm>
#include <vector>

#include "count_stats/count_stats.h"
#include "cpu/handler.h"

namespace ev3x::count_stats {
namespace {

constexpr int64_t kPerTask = 256 * 1024, kPerThread = 512 * 1024;  // predictions, at ~0.1 ns each from the cache

struct Outputs {
  int32_t *correct, *reference_correct, *wins, *losses;
};

// predictions [batch, candidates, n]; labels, reference and mask [batch, n].
void run(ffi::ThreadPool& pool, const int32_t* predictions, const int32_t* labels, const int32_t* reference,
         const uint8_t* mask, int64_t batch, int64_t candidates, int64_t n, const Outputs& out) {
  const int64_t blocks = ceil_div(n, kBlock);  // per batch member
  const int64_t width = candidates + 1, all = batch * blocks;
  const int64_t group = std::clamp<int64_t>(kPerTask / (std::min(n, kBlock) * width + 1), 1, std::max<int64_t>(1, all));
  const int64_t tasks = ceil_div(all, group);
  const Kernels& kernel = kernels();

  // What a task finds of up to `members` batch members, the reference in the last place.
  const int64_t members = blocks ? std::min(batch, (group - 1) / blocks + 2) : 0;
  std::vector<Counts> found(tasks * members * width);
  parallel_for(pool, tasks, 1 + batch * width * n / kPerThread, [&](int64_t task) {
    Block shared;
    const int64_t first = task * group / blocks;
    for (int64_t i = task * group; i < std::min(all, (task + 1) * group); ++i) {
      const int64_t b = i / blocks, from = i % blocks * kBlock, at = b * n + from;
      kernel.fill(shared, labels + at, reference + at, mask ? mask + at : nullptr, std::min(kBlock, n - from));
      Counts* mine = found.data() + (task * members + b - first) * width;
      mine[candidates].correct += shared.reference_correct;
      for (int64_t k = 0; k < candidates; ++k) {
        const Counts more = kernel.count(shared, predictions + (b * candidates + k) * n + from);
        mine[k].correct += more.correct;
        mine[k].both += more.both;
      }
    }
  });

  std::vector<Counts> total(batch * width);
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t first = task * group / blocks;
    for (int64_t m = 0; m < members && first + m < batch; ++m) {
      for (int64_t k = 0; k < width; ++k) {
        total[(first + m) * width + k].correct += found[(task * members + m) * width + k].correct;
        total[(first + m) * width + k].both += found[(task * members + m) * width + k].both;
      }
    }
  }
  for (int64_t b = 0; b < batch; ++b) {
    const int32_t right = out.reference_correct[b] = total[b * width + candidates].correct;
    for (int64_t k = 0; k < candidates; ++k) {
      const Counts& c = total[b * width + k];
      out.correct[b * candidates + k] = c.correct;
      out.wins[b * candidates + k] = c.correct - c.both;
      out.losses[b * candidates + k] = right - c.both;
    }
  }
}

using S32 = ffi::Buffer<ffi::S32>;

// `rest` holds the mask, if any.
ffi::Error handle(ffi::ThreadPool pool, S32 predictions, S32 labels, S32 reference, ffi::RemainingArgs rest,
                  ffi::Result<S32> correct, ffi::Result<S32> reference_correct, ffi::Result<S32> wins,
                  ffi::Result<S32> losses) {
  const auto shape = predictions.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("count_stats: predictions of rank < 2");
  const auto mask = optional_mask(rest);
  if (mask.has_error()) return mask.error();
  run(pool, predictions.typed_data(), labels.typed_data(), reference.typed_data(), *mask, leading(shape, 2),
      shape[shape.size() - 2], shape[shape.size() - 1],
      {correct->typed_data(), reference_correct->typed_data(), wins->typed_data(), losses->typed_data()});
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_count_stats, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<S32>().Arg<S32>().Arg<S32>()
                                  .RemainingArgs()
                                  .Ret<S32>().Ret<S32>().Ret<S32>().Ret<S32>());

}  // namespace ev3x::count_stats
