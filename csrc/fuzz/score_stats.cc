#include <algorithm>

#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_score_stats(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* ev3x_score_moments(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

float widen(float x) { return x; }
float widen(uint8_t x) { return x; }
float widen(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void narrow(float x, float& to) { to = x; }
void narrow(float x, uint8_t& to) { to = x > 0; }
void narrow(float x, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  to.bits = static_cast<uint16_t>(bits >> 16);
}

struct Weights {
  double sum = 0, square = 0;
  int64_t examples = 0;
  bool tame = true;  // neither so large nor so small that float sums of squares could leave their range
};

// What a row must come to. Where numbers are so large that squares of floats overflow, NaN and infinity will do.
struct Row {
  double mean = 0, squares = 0;  // sum of w (x - mean)^2
  double slack = 0;              // of the mean
  double square_slack = 0;       // of the mean square
  bool known = true, tame = true;
  bool beyond = false;  // the limits of `estimate`, clearly
};

template <class Value>
Row row(int64_t n, const float* w, const Weights& weights, Value value) {
  Row r;
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (w && !(w[i] > 0)) continue;
    const double x = value(i);
    r.known &= std::isfinite(x);
    r.mean += (w ? w[i] : 1.0) * x;
    largest = std::max(largest, std::fabs(x));
  }
  r.mean /= weights.sum;
  for (int64_t i = 0; i < n; ++i) {
    if (w && !(w[i] > 0)) continue;
    const double d = value(i) - r.mean;
    r.squares += (w ? w[i] : 1.0) * d * d;
  }
  r.tame = weights.tame && largest < 1e14;
  r.beyond = std::fabs(r.mean) > 1.01 * 0x1p60 || r.squares > 1.01 * 0x1p120;
  // Floats are summed about a shift; results are floats too.
  r.slack = 2e-7 * std::fabs(r.mean) + 2e-5 * std::sqrt(r.squares / weights.sum) + 1e-33;
  // What is left of a square when the mean's distance to the shift, a rounding error of large scores, is taken away.
  r.square_slack = 4e-17 * largest * largest + 1e-33;
  return r;
}

struct Bounds {
  double low, high;
};

// mean + sign z se, as closely as the row is known.
Bounds bound(const Row& r, const Weights& w, double z, double sign) {
  if (!r.known || r.beyond || !(w.sum > 0)) return {kNaN, kNaN};
  const double freedom = w.sum - w.square / w.sum;
  const double least = z * std::sqrt(std::max(r.squares * 0.999 - w.sum * r.square_slack, 0.0) / freedom * w.square) / w.sum;
  const double most = z * std::sqrt((r.squares * 1.001 + w.sum * r.square_slack) / freedom * w.square) / w.sum;
  if (z == 0) return {r.mean - r.slack, r.mean + r.slack};
  if (w.examples < 2) return {kNaN, kNaN};
  return {r.mean + (sign < 0 ? -most : least) - r.slack, r.mean + (sign < 0 ? -least : most) + r.slack};
}

struct Scene {
  int64_t batch, candidates, metrics, n;
  std::vector<Weights> weights;           // [batch, metrics]
  std::vector<Row> own, difference, reference;  // [batch, candidates, metrics] twice, [batch, metrics]
};

void mean(const Input& input, const char* what, int64_t at, double got, const Row& want, const Weights& w,
          bool raw = false) {
  if (!(w.sum > 0)) {
    if (raw ? got != 0 : !std::isnan(got)) input.near(what, at, got, raw ? 0 : kNaN, 0);
  } else if (!want.known || (want.beyond && !raw)) {
    input.expect(raw ? !std::isfinite(got) : std::isnan(got), what, at);
  } else if (want.tame || std::isfinite(got)) {
    input.near(what, at, got, want.mean, want.tame ? want.slack : std::numeric_limits<double>::max());
  }
}

void squares(const Input& input, const char* what, int64_t at, double got, const Row& want, const Weights& w,
             double divisor) {
  if (!want.known) return input.expect(!(std::isfinite(got) && divisor > 1), what, at);
  if (want.tame)
    input.near(what, at, got, want.squares / divisor, 1e-3 * want.squares / divisor + w.sum / divisor * want.square_slack);
  else
    input.expect(!(got < 0), what, at);
}

void check_stats(Input& input, const Scene& s, double z, const std::vector<Array<float>>& rows,
                 const std::vector<Array<float>>& columns, const Array<uint8_t>& above, const Array<int32_t>& best) {
  for (int64_t column = 0; column < s.batch * s.metrics; ++column) {
    const Weights& w = s.weights[column];
    const double freedom = w.sum - w.square / w.sum;
    const auto variance = [&](const char* what, int64_t at, double got, const Row& want) {
      if (!want.known || want.beyond || w.examples < 2)
        input.expect(std::isnan(got), what, at);
      else
        squares(input, what, at, got, want, w, freedom);
    };
    const Row& reference = s.reference[column];
    mean(input, "reference_mean", column, columns[0][column], reference, w);
    variance("reference_variance", column, columns[1][column], reference);
    input.near("weight", column, columns[2][column], w.sum, 1e-6 * w.sum);
    input.near("square_weight", column, columns[3][column], w.square, 1e-6 * w.square + 1.2e-38);

    const Bounds bar = bound(reference, w, z, 1);
    double least = -std::numeric_limits<double>::infinity();  // what the best one must reach
    bool tame = reference.tame, any = false;
    for (int64_t k = 0; k < s.candidates; ++k) {
      const int64_t i = (column / s.metrics * s.candidates + k) * s.metrics + column % s.metrics;
      const Row &own = s.own[i], &difference = s.difference[i];
      mean(input, "mean", i, rows[0][i], own, w);
      variance("variance", i, rows[1][i], own);
      mean(input, "difference", i, rows[2][i], difference, w);
      variance("difference_variance", i, rows[3][i], difference);
      const Bounds here = bound(own, w, z, -1);
      tame &= own.tame;
      input.expect(above[i] < 2, "above", i);
      if (std::isnan(here.low) || std::isnan(bar.low))
        input.expect(!above[i], "above", i);
      else if (own.tame && reference.tame && (here.low > bar.high || here.high < bar.low))
        input.equal("above", i, above[i], static_cast<uint8_t>(here.low > bar.high));
      if (std::isnan(here.low)) continue;
      any = true;
      least = std::max(least, here.low);
    }
    const int32_t leader = best[column];
    input.expect(leader >= -1 && leader < s.candidates, "best", column);
    if (!any)
      input.equal("best", column, leader, -1);
    else if (tame)
      input.expect(leader >= 0 && bound(s.own[(column / s.metrics * s.candidates + leader) * s.metrics +
                                              column % s.metrics],
                                        w, z, -1).high >= least,
                   "best", column);
  }
}

void check_moments(Input& input, const Scene& s, const std::vector<Array<float>>& rows,
                   const std::vector<Array<float>>& columns, const Array<int32_t>& examples) {
  const auto both = [](const Array<float>& high, const Array<float>& low, int64_t i) {
    return static_cast<double>(high[i]) + low[i];
  };
  for (int64_t column = 0; column < s.batch * s.metrics; ++column) {
    const Weights& w = s.weights[column];
    mean(input, "reference_mean", column, both(columns[0], columns[1], column), s.reference[column], w, true);
    squares(input, "reference_squares", column, columns[2][column], s.reference[column], w, 1);
    input.near("weight", column, columns[3][column], w.sum, 1e-6 * w.sum);
    input.near("square_weight", column, columns[4][column], w.square, 1e-6 * w.square + 1.2e-38);
    input.equal("examples", column, static_cast<int64_t>(examples[column]), w.examples);
    for (int64_t k = 0; k < s.candidates; ++k) {
      const int64_t i = (column / s.metrics * s.candidates + k) * s.metrics + column % s.metrics;
      mean(input, "mean", i, both(rows[0], rows[1], i), s.own[i], w, true);
      squares(input, "squares", i, rows[2][i], s.own[i], w, 1);
      mean(input, "difference", i, rows[3][i], s.difference[i], w, true);
      squares(input, "difference_squares", i, rows[4][i], s.difference[i], w, 1);
    }
  }
}

template <class T>
void fuzz(Input& input, bool partial) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge;
  Scene s{};
  s.n = large ? random.one_of<int64_t>({65'535, 65'536, 65'537, 131'073, random.between(70'000, 140'000)})
              : length(random, input.size == Size::kMedium ? 10'000 : 70);
  s.batch = large ? 1 : random.below(3);
  s.candidates = large ? random.between(3, 6) : random.between(1, 4);
  s.metrics = large ? random.between(1, 2) : random.below(3);
  const bool weighted = random.chance(0.5);
  input.shape({s.batch, s.candidates, s.metrics, s.n, weighted, static_cast<int64_t>(sizeof(T))});
  const int64_t columns = s.batch * s.metrics, rows = columns * s.candidates;

  Array<T> scores(random, rows * s.n), reference(random, columns * s.n);
  Array<float> w(random, weighted ? columns * s.n : 0);
  Floats value(random, any_kind(random)), other(random, any_kind(random));
  const double replaced = random.one_of({0.0, 0.0, 0.5 / static_cast<double>(s.n + 1), 0.1});
  for (int64_t i = 0; i < scores.size(); ++i) narrow(random.chance(replaced) ? value.special() : value(), scores[i]);
  const bool alike = random.chance(0.5);
  for (int64_t i = 0; i < reference.size(); ++i) narrow(alike ? value() : other(), reference[i]);
  const int64_t kind = random.below(6);
  const double counted = random.one_of({0.0, 0.02, 0.7, 1.0});
  for (int64_t i = 0; i < w.size(); ++i) {
    const double u = random.uniform();
    w[i] = !random.chance(counted) ? 0.0f
           : kind < 2              ? 1.0f
           : kind < 4              ? static_cast<float>(2 * u)
           : kind == 4             ? static_cast<float>(std::exp2(20 * u - 10))
                                   : static_cast<float>(std::exp2(250 * u - 125));
  }

  for (int64_t column = 0; column < columns; ++column) {
    Weights sum;
    const float* weights = weighted ? &w[column * s.n] : nullptr;
    for (int64_t i = 0; i < s.n; ++i) {
      const double each = weights ? weights[i] : 1;
      sum.sum += each, sum.square += each * each, sum.examples += each > 0;
      sum.tame &= each == 0 || (each > 1e-4 && each < 1e4);
    }
    s.weights.push_back(sum);
    s.reference.push_back(row(s.n, weights, sum, [&](int64_t i) { return widen(reference[column * s.n + i]); }));
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t column = r / s.metrics / s.candidates * s.metrics + r % s.metrics;
    const float* weights = weighted ? &w[column * s.n] : nullptr;
    const auto x = [&](int64_t i) { return widen(scores[r * s.n + i]); };
    s.own.push_back(row(s.n, weights, s.weights[column], x));
    s.difference.push_back(
        row(s.n, weights, s.weights[column], [&](int64_t i) { return x(i) - widen(reference[column * s.n + i]); }));
  }

  const std::vector<int64_t> by_row{s.batch, s.candidates, s.metrics}, by_column{s.batch, s.metrics};
  Call call;
  call.in(scores, {s.batch, s.candidates, s.metrics, s.n}).in(reference, {s.batch, s.metrics, s.n});
  if (weighted) call.in(w, {s.batch, s.metrics, s.n});
  std::vector<Array<float>> row_results, column_results;
  Input::Bits results;
  const auto out = [&](std::vector<Array<float>>& to, int64_t count, int64_t size, const std::vector<int64_t>& shape) {
    for (int64_t i = 0; i < count; ++i) {
      to.emplace_back(random, size);
      call.out(to.back(), shape);
      results.push_back(bits(to.back()));
    }
  };
  Array<int32_t> integers(random, columns);
  out(row_results, partial ? 5 : 4, rows, by_row);
  out(column_results, partial ? 5 : 4, columns, by_column);
  if (partial) {
    call.out(integers, by_column);
    input.run(call, ev3x_score_moments, results,
              [&] { check_moments(input, s, row_results, column_results, integers); });
  } else {
    const double z = random.one_of({0.0, 1.0, 2.5});
    Array<uint8_t> above(random, rows);
    call.out(above, by_row).out(integers, by_column).attribute("z", z);
    input.run(call, ev3x_score_stats, results,
              [&] { check_stats(input, s, z, row_results, column_results, above, integers); });
  }
}

void any_type(Input& input, bool partial) {
  switch (input.random.below(3)) {
    case 0:
      return fuzz<float>(input, partial);
    case 1:
      return fuzz<BFloat16>(input, partial);
    default:
      return fuzz<uint8_t>(input, partial);
  }
}

}  // namespace

void fuzz_score_stats(Input& input) { any_type(input, false); }
void fuzz_score_moments(Input& input) { any_type(input, true); }

}  // namespace ev3x::fuzz
