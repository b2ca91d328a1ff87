// CPU handlers of bootstrap_means: tasks are groups of resamples. Python has checked the shapes.
#include <algorithm>
#include <limits>
#include <vector>

#include "bootstrap_means/kernels.h"
#include "cpu/handler.h"

namespace ev3x::bootstrap_means {
namespace {

constexpr int64_t kMostResamples = 64, kCountBytes = 1 << 20;  // of a task
constexpr int64_t kPicosecondsWeight = 200, kPicosecondsProduct = 25, kNanosecondsThread = 50'000;

// Scores [batch, candidates, n]; state [batch, 3]: two seeds and the first example's index among all; mask [batch, n]
// or null. Results: centres [batch, candidates], sums of weights [batch, resamples], and either the means or the sums
// of weighted scores about the centres, [batch, resamples, candidates].
struct Problem {
  int64_t batch, candidates, n, resamples;
  const float* scores;
  const uint32_t* state;
  const uint8_t* mask;
  const int32_t* thresholds;  // null: Poisson weights
  bool as_means;
  float *centres, *sums, *weights;
  Centre* rows = nullptr;  // [batch, candidates]
};

// Examples of each batch member that count, for exact resamples: how many, and where if not all.
struct Counted {
  std::vector<int64_t> number;
  std::vector<int32_t> places;  // [batch, n], or none
};

// Of one thread.
struct Scratch {
  std::vector<uint32_t> keys, counted;
  std::vector<float> weights, centred;
  std::vector<double> sums;
  std::vector<int64_t> drawn;
  std::vector<uint8_t> counts;
  Scratch(const Problem& p, int64_t resamples)
      : keys(kBlock),
        counted(kBlock),
        weights(kTile * kBlock),
        centred(p.candidates * kBlock),
        sums(resamples * p.candidates),
        drawn(resamples),
        counts(p.thresholds ? resamples * p.n : 0) {}
};

// Columns begin .. end - 1 of the block that starts at example `first` (negative before a part's own first one).
struct Span {
  int64_t first, begin, end;
  int64_t width() const { return ceil_div(end, kGroup) * kGroup; }
};

void centre(const Problem& p, int64_t b, const Span& span, Scratch& s) {
  for (int64_t k = 0; k < p.candidates; ++k) {
    const int64_t row = b * p.candidates + k, at = span.first + span.begin;
    float* out = s.centred.data() + k * kBlock;
    std::fill(out, out + span.begin, 0.0f);
    kernels().centre(p.scores + row * p.n + at, p.mask ? p.mask + b * p.n + at : nullptr, p.rows[row],
                     span.end - span.begin, out + span.begin);
    std::fill(out + span.end, out + span.width(), 0.0f);
  }
}

void poisson(const Problem& p, int64_t b, int64_t from, int64_t resamples, Scratch& s) {
  const Seeds seeds{p.state[3 * b], p.state[3 * b + 1]};
  const int64_t offset = p.state[3 * b + 2];
  for (int64_t start = offset / kBlock * kBlock; start < offset + p.n; start += kBlock) {
    const Span span{start - offset, std::max<int64_t>(0, offset - start), std::min(kBlock, offset + p.n - start)};
    const int64_t width = span.width();
    kernels().columns(seeds, kOfHalves, static_cast<uint32_t>(start / 2), width / 2, s.keys.data());
    centre(p, b, span, s);
    const bool some = p.mask || span.begin > 0 || span.end < width;
    for (int64_t i = 0; some && i < width; ++i) {
      const bool inside = i >= span.begin && i < span.end;
      s.counted[i] = inside && (!p.mask || p.mask[b * p.n + span.first + i]) ? ~0u : 0;
    }
    for (int64_t r = 0; r < resamples; r += kTile) {
      for (int64_t t = 0; t < kTile; ++t)
        s.drawn[r + t] += kernels().halves(resample(seeds, static_cast<uint32_t>(from + r + t)), s.keys.data(),
                                           some ? s.counted.data() : nullptr, width, s.weights.data() + t * kBlock);
      kernels().multiply(s.weights.data(), s.centred.data(), width, p.candidates, s.sums.data() + r * p.candidates);
    }
  }
}

void multinomial(const Problem& p, const Counted& counted, int64_t b, int64_t from, int64_t resamples, Scratch& s) {
  const Seeds seeds{p.state[3 * b], p.state[3 * b + 1]};
  const int64_t number = counted.number[b];
  const int32_t* places = counted.places.empty() ? nullptr : counted.places.data() + b * p.n;
  for (int64_t start = 0; start < p.n; start += kBlock) {
    const int64_t size = std::min(kBlock, p.n - start);
    kernels().columns(seeds, kOfCounts, static_cast<uint32_t>(start), size, s.keys.data());
    for (int64_t r = 0; r < resamples; ++r)
      s.drawn[r] += kernels().counts(resample(seeds, static_cast<uint32_t>(from + r)), s.keys.data(), p.thresholds,
                                     p.mask ? p.mask + b * p.n + start : nullptr, size, &s.counts[r * p.n + start]);
  }
  for (int64_t r = 0; r < resamples; ++r) {
    uint8_t* counts = s.counts.data() + r * p.n;
    if (s.drawn[r] > number) {
      std::fill(counts, counts + p.n, uint8_t{0});
      s.drawn[r] = 0;
    }
    kernels().draw(seeds, resample(seeds, static_cast<uint32_t>(from + r)), places, number, number - s.drawn[r], counts);
    s.drawn[r] = number;
  }
  for (int64_t start = 0; start < p.n; start += kBlock) {
    const Span span{start, 0, std::min(kBlock, p.n - start)};
    centre(p, b, span, s);
    for (int64_t r = 0; r < resamples; r += kTile) {
      for (int64_t t = 0; t < kTile; ++t) {
        float* weights = s.weights.data() + t * kBlock;
        kernels().widen(&s.counts[(r + t) * p.n + start], span.end, weights);
        std::fill(weights + span.end, weights + span.width(), 0.0f);
      }
      kernels().multiply(s.weights.data(), s.centred.data(), span.width(), p.candidates,
                         s.sums.data() + r * p.candidates);
    }
  }
}

Counted count(const Problem& p) {
  Counted counted{std::vector<int64_t>(p.batch, p.n), {}};
  if (!p.mask) return counted;
  counted.places.resize(p.batch * p.n);
  for (int64_t b = 0; b < p.batch; ++b) {
    int64_t number = 0;
    for (int64_t i = 0; i < p.n; ++i) {
      counted.places[b * p.n + number] = static_cast<int32_t>(i);
      number += p.mask[b * p.n + i];
    }
    counted.number[b] = number;
  }
  return counted;
}

void run(ffi::ThreadPool& pool, Problem p) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  const int64_t rows = p.batch * p.candidates;
  std::vector<Centre> of_rows(rows);
  p.rows = of_rows.data();
  parallel_for(pool, rows, 1 + rows * p.n / 1000 * 100 / kNanosecondsThread, [&](int64_t row) {
    const uint8_t* mask = p.mask ? p.mask + row / p.candidates * p.n : nullptr;
    p.rows[row] = kernels().mean(p.scores + row * p.n, mask, p.n);
    p.centres[row] = p.rows[row].mean;
  });
  if (p.resamples == 0) return;
  const Counted counted = p.thresholds ? count(p) : Counted{};

  const int64_t cost = kPicosecondsWeight + kPicosecondsProduct * p.candidates;
  const int64_t wanted = 1 + p.batch * p.resamples * p.n / 1000 * cost / kNanosecondsThread;
  const int64_t threads = std::min(pool.num_threads(), wanted);  // at most
  // What is computed of a resample does not depend on those beside it.
  const int64_t fit = kCountBytes / std::max<int64_t>(1, p.n);
  const int64_t most = p.thresholds ? std::clamp<int64_t>(fit, kTile, kMostResamples) : kMostResamples;
  const int64_t share = std::max<int64_t>(1, p.resamples * p.batch / (4 * threads * kTile));
  const int64_t size = std::min(most / kTile, share) * kTile;
  const int64_t groups = ceil_div(p.resamples, size), tasks = p.batch * groups;
  std::vector<Scratch> scratch;
  for (int64_t w = 0; w < count_workers(pool, tasks, threads); ++w) scratch.emplace_back(p, size);
  parallel_for(pool, tasks, threads, [&](int64_t task, int64_t worker) {
    Scratch& s = scratch[worker];
    const int64_t b = task / groups, from = task % groups * size;
    const int64_t kept = std::min(size, p.resamples - from), resamples = ceil_div(kept, kTile) * kTile;
    std::fill(s.sums.begin(), s.sums.end(), 0.0);
    std::fill(s.drawn.begin(), s.drawn.end(), 0);
    if (p.thresholds)
      multinomial(p, counted, b, from, resamples, s);
    else
      poisson(p, b, from, resamples, s);
    for (int64_t r = 0; r < kept; ++r) {
      const int64_t at = b * p.resamples + from + r;
      p.weights[at] = static_cast<float>(s.drawn[r]);
      for (int64_t k = 0; k < p.candidates; ++k) {
        const Centre& row = p.rows[b * p.candidates + k];
        const double sum = s.sums[r * p.candidates + k] / row.scale;
        // A mean of the largest floats is one of them, but for rounding.
        const double mean = std::clamp(row.mean + sum / static_cast<double>(s.drawn[r]), -kLargest, kLargest);
        p.sums[at * p.candidates + k] = static_cast<float>(p.as_means ? mean : sum);
      }
    }
  });
}

using F32 = ffi::Buffer<ffi::F32>;
using U32 = ffi::Buffer<ffi::U32>;

ffi::Error start(ffi::ThreadPool& pool, F32 scores, U32 state, ffi::RemainingArgs rest, bool as_means,
                 const int32_t* thresholds, F32& centres, F32& sums, F32& weights) {
  const auto shape = scores.dimensions();
  const size_t rank = shape.size();
  if (rank < 2) return ffi::Error::InvalidArgument("bootstrap_means: scores of rank < 2");
  const uint8_t* mask = nullptr;  // one byte an example; none: all count
  if (rest.size()) {
    const auto given = rest.get<ffi::Buffer<ffi::PRED>>(0);
    if (given.has_error()) return given.error();
    mask = reinterpret_cast<const uint8_t*>(given->typed_data());
  }
  run(pool, {leading(shape, 2), shape[rank - 2], shape[rank - 1], weights.dimensions().back(), scores.typed_data(),
             state.typed_data(), mask, thresholds, as_means, centres.typed_data(), sums.typed_data(),
             weights.typed_data()});
  return ffi::Error::Success();
}

ffi::Error handle_poisson(ffi::ThreadPool pool, F32 scores, U32 state, ffi::RemainingArgs rest, bool as_means,
                          ffi::Result<F32> centres, ffi::Result<F32> sums, ffi::Result<F32> weights) {
  return start(pool, scores, state, rest, as_means, nullptr, *centres, *sums, *weights);
}

ffi::Error handle_multinomial(ffi::ThreadPool pool, F32 scores, U32 state, ffi::RemainingArgs rest, bool as_means,
                              ffi::Span<const int32_t> thresholds, ffi::Result<F32> centres, ffi::Result<F32> sums,
                              ffi::Result<F32> weights) {
  if (thresholds.size() != kExactThresholds) return ffi::Error::InvalidArgument("bootstrap_means: wrong thresholds");
  return start(pool, scores, state, rest, as_means, thresholds.begin(), *centres, *sums, *weights);
}

auto inputs() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<U32>().RemainingArgs().Attr<bool>("as_means");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_bootstrap_poisson, handle_poisson, inputs().Ret<F32>().Ret<F32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_bootstrap_multinomial, handle_multinomial,
                              inputs().Attr<ffi::Span<const int32_t>>("thresholds").Ret<F32>().Ret<F32>().Ret<F32>());

}  // namespace ev3x::bootstrap_means
