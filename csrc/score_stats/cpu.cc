// CPU handlers of score_stats: shapes, the thread pool, and the decisions in double. Python has checked the shapes.
#include <vector>

#include "cpu/handler.h"
#include "score_stats/kernels.h"

namespace ev3x::score_stats {
namespace {

constexpr int64_t kChunk = 64 * 1024;  // examples of a row in one piece, whatever the threads

// Per 1000 examples of a row. Waking a thread costs tens of microseconds.
constexpr int64_t kNanosecondsPlain = 80, kNanosecondsWeighted = 250, kNanosecondsBool = 15;
constexpr int64_t kNanosecondsTask = 20'000, kNanosecondsThread = 50'000;

// Scores [batch, candidates, metrics, n]; reference and weights (or null) [batch, metrics, n].
template <class T>
struct Inputs {
  int64_t batch, candidates, metrics, n;
  const T *scores, *reference;
  const float* weights;
};

// The moments of all rows and of the references, one column (batch member and metric) at a time: [columns, candidates].
struct Found {
  std::vector<Pair> rows;
  std::vector<Moments> references;
  std::vector<Weight> weights;
};

template <class T>
Found find(ffi::ThreadPool& pool, const Inputs<T>& in, const Rows<T>& kernel) {
  // Row r of a batch member is candidate r / metrics; the one after the last candidate is the reference itself.
  const int64_t rows_each = (in.candidates + 1) * in.metrics, rows = in.batch * rows_each;
  const int64_t columns = in.batch * in.metrics;
  const int64_t pieces = std::max<int64_t>(1, ceil_div(in.n, kChunk));  // per row
  const int64_t all = rows * pieces;
  const int64_t cost = in.weights ? kNanosecondsWeighted : sizeof(T) == 1 ? kNanosecondsBool : kNanosecondsPlain;
  const int64_t piece_size = std::max<int64_t>(1, std::min(in.n, kChunk));
  const int64_t group = std::max<int64_t>(1, kNanosecondsTask * 1000 / (cost * piece_size));  // pieces per task

  std::vector<Pair> partial(all);
  std::vector<Weight> weights(in.weights ? columns * pieces : 0);
  auto piece = [&](int64_t p) {
    // Piece by piece of a column, all its rows after each other: the reference and the weights stay in the cache.
    const int64_t width = in.candidates + 1, k = p % width, c = p / width % pieces, column = p / width / pieces;
    const int64_t b = column / in.metrics, m = column % in.metrics, from = c * kChunk;
    const int64_t size = std::min(kChunk, in.n - from);
    const T* y = in.reference + column * in.n + from;
    const T* x = k == in.candidates ? y : in.scores + ((b * in.candidates + k) * in.metrics + m) * in.n + from;
    const float* w = in.weights ? in.weights + column * in.n + from : nullptr;
    partial[p] = w ? kernel.weighted(x, y, w, size) : kernel.plain(x, y, size);
    if (w && k == in.candidates) weights[column * pieces + c] = kernels().weigh(w, size);
  };
  parallel_for(pool, ceil_div(all, group), 1 + rows * in.n / 1000 * cost / kNanosecondsThread, [&](int64_t t) {
    for (int64_t p = t * group; p < std::min(all, (t + 1) * group); ++p) piece(p);
  });

  Found found{std::vector<Pair>(columns * in.candidates), std::vector<Moments>(columns), std::vector<Weight>(columns)};
  const auto n = static_cast<double>(in.n);
  for (int64_t column = 0; column < columns; ++column) {
    if (!in.weights) found.weights[column] = {n, n, in.n};
    for (int64_t c = 0; c < pieces; ++c) {
      const Pair* here = partial.data() + (column * pieces + c) * (in.candidates + 1);
      for (int64_t k = 0; k < in.candidates; ++k) {
        Pair& row = found.rows[column * in.candidates + k];
        row = merge(row, here[k]);
      }
      found.references[column] = merge(found.references[column], here[in.candidates].own);
      if (in.weights) found.weights[column] = merge(found.weights[column], weights[column * pieces + c]);
    }
  }
  return found;
}

using F32 = ffi::Buffer<ffi::F32>;
using Pred = ffi::Buffer<ffi::PRED>;
using S32 = ffi::Buffer<ffi::S32>;
template <class B>
using Out = ffi::Result<B>;

// Calls then(inputs, found) for scores of any of the three types; `rest` holds the weights, if any.
template <class Then>
ffi::Error moments(ffi::ThreadPool& pool, ffi::AnyBuffer scores, ffi::AnyBuffer reference, ffi::RemainingArgs rest,
                   Then then) {
  const auto shape = scores.dimensions();
  const size_t rank = shape.size();
  if (rank < 3) return ffi::Error::InvalidArgument("score_stats: scores of rank < 3");
  if (reference.element_type() != scores.element_type())
    return ffi::Error::InvalidArgument("score_stats: scores and reference of different types");
  const float* weights = nullptr;
  if (rest.size()) {
    const auto given = rest.get<F32>(0);
    if (given.has_error()) return given.error();
    weights = given->typed_data();
  }
  auto run = [&]<class T>(const Rows<T>& kernel) {
    const Inputs<T> in{leading(shape, 3),
                       shape[rank - 3],
                       shape[rank - 2],
                       shape[rank - 1],
                       static_cast<const T*>(scores.untyped_data()),
                       static_cast<const T*>(reference.untyped_data()),
                       weights};
    then(in.batch, in.candidates, in.metrics, find(pool, in, kernel));
    return ffi::Error::Success();
  };
  switch (scores.element_type()) {
    case ffi::F32:
      return run(kernels().f32);
    case ffi::BF16:
      return run(kernels().bf16);
    case ffi::PRED:
      return run(kernels().boolean);
    default:
      return ffi::Error::InvalidArgument("score_stats: scores must be F32, BF16 or PRED");
  }
}

// The fields of ScoreStats, in its order.
ffi::Error stats(ffi::ThreadPool pool, ffi::AnyBuffer scores, ffi::AnyBuffer reference, ffi::RemainingArgs rest,
                 double z, Out<F32> mean, Out<F32> variance, Out<F32> difference, Out<F32> difference_variance,
                 Out<F32> reference_mean, Out<F32> reference_variance, Out<F32> weight, Out<F32> square_weight,
                 Out<Pred> above, Out<S32> best) {
  const auto conclude = [&](int64_t batch, int64_t candidates, int64_t metrics, const Found& found) {
    for (int64_t column = 0; column < batch * metrics; ++column) {
      const Weight& w = found.weights[column];
      const Estimate ref = estimate(found.references[column], w);
      const double bar = ref.mean + margin(ref, w, z);
      double best_bound = -std::numeric_limits<double>::infinity();
      int32_t leader = -1;
      for (int64_t k = 0; k < candidates; ++k) {
        const Pair& row = found.rows[column * candidates + k];
        const Estimate own = estimate(row.own, w), paired = estimate(row.difference, w);
        const double bound = own.mean - margin(own, w, z);
        const int64_t i = ((column / metrics) * candidates + k) * metrics + column % metrics;
        mean->typed_data()[i] = static_cast<float>(own.mean);
        variance->typed_data()[i] = static_cast<float>(own.variance);
        difference->typed_data()[i] = static_cast<float>(paired.mean);
        difference_variance->typed_data()[i] = static_cast<float>(paired.variance);
        above->typed_data()[i] = bound > bar;  // false for NaN
        if (std::isfinite(bound) && bound > best_bound) {
          best_bound = bound;
          leader = static_cast<int32_t>(k);
        }
      }
      reference_mean->typed_data()[column] = static_cast<float>(ref.mean);
      reference_variance->typed_data()[column] = static_cast<float>(ref.variance);
      weight->typed_data()[column] = static_cast<float>(w.sum);
      square_weight->typed_data()[column] = static_cast<float>(w.square);
      best->typed_data()[column] = leader;
    }
  };
  return moments(pool, scores, reference, rest, conclude);
}

// The fields of ScoreMoments, in its order: a mean in two floats, so that near ones can be told apart.
ffi::Error partial(ffi::ThreadPool pool, ffi::AnyBuffer scores, ffi::AnyBuffer reference, ffi::RemainingArgs rest,
                   Out<F32> mean, Out<F32> mean_rest, Out<F32> squares, Out<F32> difference,
                   Out<F32> difference_squares, Out<F32> reference_mean, Out<F32> reference_rest,
                   Out<F32> reference_squares, Out<F32> weight, Out<F32> square_weight, Out<S32> examples) {
  const auto split = [](double value, float& high, float& low) {
    high = static_cast<float>(value);
    low = std::isfinite(high) ? static_cast<float>(value - high) : 0.0f;
  };
  const auto write = [&](int64_t batch, int64_t candidates, int64_t metrics, const Found& found) {
    for (int64_t column = 0; column < batch * metrics; ++column) {
      for (int64_t k = 0; k < candidates; ++k) {
        const Pair& row = found.rows[column * candidates + k];
        const int64_t i = ((column / metrics) * candidates + k) * metrics + column % metrics;
        split(row.own.mean, mean->typed_data()[i], mean_rest->typed_data()[i]);
        squares->typed_data()[i] = static_cast<float>(row.own.m2);
        difference->typed_data()[i] = static_cast<float>(row.difference.mean);
        difference_squares->typed_data()[i] = static_cast<float>(row.difference.m2);
      }
      const Moments& ref = found.references[column];
      const Weight& w = found.weights[column];
      split(ref.mean, reference_mean->typed_data()[column], reference_rest->typed_data()[column]);
      reference_squares->typed_data()[column] = static_cast<float>(ref.m2);
      weight->typed_data()[column] = static_cast<float>(w.sum);
      square_weight->typed_data()[column] = static_cast<float>(w.square);
      examples->typed_data()[column] = static_cast<int32_t>(w.examples);
    }
  };
  return moments(pool, scores, reference, rest, write);
}

auto inputs() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>().RemainingArgs();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_score_stats, stats,
                              inputs().Attr<double>("z")
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                                  .Ret<F32>().Ret<Pred>().Ret<S32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_score_moments, partial,
                              inputs()
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Ret<S32>());

}  // namespace ev3x::score_stats
