// CPU handler of lexicase: tasks are groups of cases, then groups of tournaments. Python has checked the shapes.
#include "lexicase/lexicase.h"
#include "parallel_for.h"

namespace ev3x::lexicase {
namespace {



constexpr int64_t kScoresPerTask = 16 * 1024, kScoresPerThread = 32 * 1024;  // ~10 ns each with a median
constexpr int64_t kParentsPerTask = 64, kParentsPerThread = 256;              // ~200 ns each and more

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void run(ffi::ThreadPool& pool, const float* scores, Seeds seeds, const uint8_t* eligible, int64_t candidates,
         int64_t cases, int64_t parents, float epsilon, int32_t* winners) {
  Field f = field(eligible, candidates, cases);
  const int64_t at_once = std::max<int64_t>(1, kScoresPerTask / std::max<int64_t>(1, f.count));
  parallel_for(pool, ceil_div(cases, at_once), 1 + cases * f.count / kScoresPerThread, [&](int64_t task) {
    prepare(f, scores, task * at_once, std::min(cases, (task + 1) * at_once), epsilon);
  });
  std::vector<uint32_t> draws(cases + 1);
  for (int64_t t = 0; t <= cases; ++t) draws[t] = seeds.draw(t);
  parallel_for(pool, ceil_div(parents, kParentsPerTask), 1 + parents / kParentsPerThread, [&](int64_t task) {
    Scratch scratch(f);
    for (int64_t p = task * kParentsPerTask; p < std::min(parents, (task + 1) * kParentsPerTask); ++p)
      winners[p] = winner(f, seeds, draws.data(), p, scratch);
  });
}

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> scores, ffi::Buffer<ffi::U32> seeds,
                  ffi::Buffer<ffi::PRED> eligible, float epsilon, ffi::Result<ffi::Buffer<ffi::S32>> winners) {
  const auto shape = scores.dimensions();
  if (shape.size() < 2) return ffi::Error::InvalidArgument("lexicase: scores of rank < 2");
  const int64_t cases = shape[shape.size() - 1], candidates = shape[shape.size() - 2];
  const int64_t parents = winners->dimensions().back();
  int64_t batch = 1;
  for (size_t i = 0; i + 2 < shape.size(); ++i) batch *= shape[i];
  const auto* allowed = reinterpret_cast<const uint8_t*>(eligible.typed_data());
  for (int64_t b = 0; b < batch; ++b) {
    const uint32_t* seed = seeds.typed_data() + 2 * b;
    run(pool, scores.typed_data() + b * candidates * cases, {seed[0], seed[1]}, allowed + b * candidates, candidates,
        cases, parents, epsilon, winners->typed_data() + b * parents);
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
