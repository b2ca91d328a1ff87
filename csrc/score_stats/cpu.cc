// CPU handlers of score_stats: shapes, the thread pool, and the decisions in double. Python has checked the shapes.
#include <vector>

#include "parallel_for.h"
#include "score_stats/score_stats.h"

namespace ev3x::score_stats {
namespace {

namespace ffi = xla::ffi;

constexpr int64_t kChunk = 64 * 1024;  // examples of a row in one piece, whatever the threads

// Waking a thread costs tens of microseconds. Per 1000 examples of a row, without SIMD beyond the baseline:
constexpr int64_t kNanosecondsPlain = 300, kNanosecondsWeighted = 1300, kNanosecondsBool = 40;
constexpr int64_t kNanosecondsTask = 20'000, kNanosecondsThread = 50'000;

struct Outputs {
  float *mean, *variance, *difference, *difference_variance, *reference_mean, *reference_variance;
  float *weight, *square_weight;
  bool* above;
  int32_t* best;
};

// One column: the candidates' rows of one metric against their reference. Candidate k's row is at k * metrics.
void finish_column(const Pair* rows, const Pair& reference, const Weight& w, int64_t candidates, int64_t metrics,
                   double z, int64_t at, int64_t column, const Outputs& out) {
  const Estimate ref = estimate(reference.own, w);
  const double bar = ref.mean + margin(ref, w, z);
  double best_bound = -std::numeric_limits<double>::infinity();
  int32_t best = -1;
  for (int64_t k = 0; k < candidates; ++k) {
    const Pair& row = rows[k * metrics];
    const Estimate own = estimate(row.own, w), difference = estimate(row.difference, w);
    const double bound = own.mean - margin(own, w, z);
    const int64_t i = at + k * metrics;
    out.mean[i] = static_cast<float>(own.mean);
    out.variance[i] = static_cast<float>(own.variance);
    out.difference[i] = static_cast<float>(difference.mean);
    out.difference_variance[i] = static_cast<float>(difference.variance);
    out.above[i] = bound > bar;  // false for NaN
    if (std::isfinite(bound) && bound > best_bound) {
      best_bound = bound;
      best = static_cast<int32_t>(k);
    }
  }
  out.reference_mean[column] = static_cast<float>(ref.mean);
  out.reference_variance[column] = static_cast<float>(ref.variance);
  out.weight[column] = static_cast<float>(w.sum);
  out.square_weight[column] = static_cast<float>(w.square);
  out.best[column] = best;
}

// scores [batch, candidates, metrics, n], reference and weights [batch, metrics, n].
template <class T>
void run(ffi::ThreadPool& pool, ffi::Span<const int64_t> shape, const T* scores, const T* reference,
         const float* weights, double z, const Outputs& out) {
  const size_t rank = shape.size();
  const int64_t n = shape[rank - 1], metrics = shape[rank - 2], candidates = shape[rank - 3];
  int64_t batch = 1;
  for (size_t i = 0; i + 3 < rank; ++i) batch *= shape[i];

  // Row r of a batch member is candidate r / metrics; the one after the last candidate is the reference itself.
  const int64_t rows_each = (candidates + 1) * metrics, rows = batch * rows_each;
  const int64_t pieces = std::max<int64_t>(1, (n + kChunk - 1) / kChunk);  // per row
  const int64_t piece_size = std::max<int64_t>(1, std::min(n, kChunk));
  const int64_t all = rows * pieces;
  const int64_t cost = weights ? kNanosecondsWeighted : sizeof(T) == 1 ? kNanosecondsBool : kNanosecondsPlain;
  const int64_t group = std::max<int64_t>(1, kNanosecondsTask * 1000 / (cost * piece_size));  // pieces per task
  const int64_t threads = 1 + rows * n / 1000 * cost / kNanosecondsThread;

  std::vector<Pair> partial(all);
  auto piece = [&](int64_t p) {
    const int64_t r = p / pieces, from = p % pieces * kChunk, b = r / rows_each, in = r % rows_each;
    const int64_t k = in / metrics, column = b * metrics + in % metrics, size = std::min(kChunk, n - from);
    const T* y = reference + column * n + from;
    const T* x = k == candidates ? y : scores + ((b * candidates + k) * metrics + in % metrics) * n + from;
    partial[p] = row(x, y, weights ? weights + column * n + from : nullptr, size);
  };
  auto task = [&](int64_t t) {
    for (int64_t p = t * group; p < std::min(all, (t + 1) * group); ++p) piece(p);
  };
  parallel_for(pool, (all + group - 1) / group, threads, task);

  for (int64_t r = 0; pieces > 1 && r < rows; ++r) {
    Pair sum = partial[r * pieces];
    for (int64_t j = 1; j < pieces; ++j) sum = merge(sum, partial[r * pieces + j]);
    partial[r] = sum;  // r <= r * pieces: read before it is written
  }
  for (int64_t column = 0; column < batch * metrics; ++column) {
    const int64_t b = column / metrics, m = column % metrics;
    const auto count = static_cast<double>(n);
    const Weight w = weights ? weigh(weights + column * n, n) : Weight{count, count};
    const Pair* first = partial.data() + b * rows_each + m;
    finish_column(first, first[candidates * metrics], w, candidates, metrics, z, b * candidates * metrics + m, column,
                  out);
  }
}

using F32 = ffi::Buffer<ffi::F32>;
using Pred = ffi::Buffer<ffi::PRED>;
using S32 = ffi::Buffer<ffi::S32>;
template <class B>
using Out = ffi::Result<B>;

const float* data(const F32& buffer) { return buffer.typed_data(); }
const uint8_t* data(const Pred& buffer) { return reinterpret_cast<const uint8_t*>(buffer.typed_data()); }

template <class Scores>
ffi::Error handle(ffi::ThreadPool& pool, const Scores& scores, const Scores& reference, const float* weights,
                  double z, const Outputs& out) {
  if (scores.dimensions().size() < 3) return ffi::Error::InvalidArgument("score_stats: scores of rank < 3");
  run(pool, scores.dimensions(), data(scores), data(reference), weights, z, out);
  return ffi::Error::Success();
}

template <class Scores>
ffi::Error plain(ffi::ThreadPool pool, Scores scores, Scores reference, double z, Out<F32> a, Out<F32> b, Out<F32> c,
                 Out<F32> d, Out<F32> e, Out<F32> f, Out<F32> g, Out<F32> h, Out<Pred> i, Out<S32> j) {
  return handle(pool, scores, reference, nullptr, z,
                {a->typed_data(), b->typed_data(), c->typed_data(), d->typed_data(), e->typed_data(), f->typed_data(),
                 g->typed_data(), h->typed_data(), i->typed_data(), j->typed_data()});
}

template <class Scores>
ffi::Error weighted(ffi::ThreadPool pool, Scores scores, Scores reference, F32 weights, double z, Out<F32> a,
                    Out<F32> b, Out<F32> c, Out<F32> d, Out<F32> e, Out<F32> f, Out<F32> g, Out<F32> h, Out<Pred> i,
                    Out<S32> j) {
  return handle(pool, scores, reference, weights.typed_data(), z,
                {a->typed_data(), b->typed_data(), c->typed_data(), d->typed_data(), e->typed_data(), f->typed_data(),
                 g->typed_data(), h->typed_data(), i->typed_data(), j->typed_data()});
}

// The ten fields of ScoreStats, in its order.
template <class Binding>
auto results(Binding&& binding) {
  return std::move(binding)
      .template Attr<double>("z")
      .template Ret<F32>().template Ret<F32>().template Ret<F32>().template Ret<F32>()
      .template Ret<F32>().template Ret<F32>().template Ret<F32>().template Ret<F32>()
      .template Ret<Pred>().template Ret<S32>();
}

template <class Scores>
auto inputs() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Scores>().template Arg<Scores>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_score_stats_f32, plain<F32>, results(inputs<F32>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_score_stats_bool, plain<Pred>, results(inputs<Pred>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_score_stats_weighted_f32, weighted<F32>, results(inputs<F32>().Arg<F32>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_score_stats_weighted_bool, weighted<Pred>, results(inputs<Pred>().Arg<F32>()));

}  // namespace ev3x::score_stats
