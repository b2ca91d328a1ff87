#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_rank_metrics(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {

void fuzz_rank_metrics(Input& input) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge;
  const int64_t n = large ? random.between(3000, 30'000) : length(random, input.size == Size::kMedium ? 2500 : 70);
  const int64_t k = large ? random.between(2, 9) : random.below(4), batch = random.below(3);
  input.shape({batch, k, n});

  Array<float> scores(random, batch * k * n);
  Array<uint8_t> labels(random, batch * n);
  Floats value(random, any_kind(random));
  const double positive = random.one_of({0.0, 0.01, 0.5, 0.99, 1.0});
  for (int64_t i = 0; i < scores.size(); ++i) scores[i] = value();
  for (int64_t i = 0; i < labels.size(); ++i) labels[i] = random.chance(positive);

  // Positives and negatives by score, from the lowest.
  struct Counts {
    int64_t positives = 0, negatives = 0;
  };
  Array<double> auroc(random, batch * k), precision(random, batch * k);
  for (int64_t r = 0; r < batch * k; ++r) {
    std::map<float, Counts> levels;
    bool nan = false;
    Counts all;
    for (int64_t i = 0; i < n; ++i) {
      const float x = scores[r * n + i];
      nan |= std::isnan(x);
      if (nan) break;
      const bool y = labels[r / k * n + i];
      Counts& level = levels[std::fabs(x) < std::numeric_limits<float>::min() ? 0 : x];
      level.positives += y, level.negatives += !y;
      all.positives += y, all.negatives += !y;
    }
    auroc[r] = precision[r] = std::numeric_limits<double>::quiet_NaN();
    if (nan || !all.positives) continue;
    double wins = 0, sum = 0;
    Counts below;
    for (const auto& [score, level] : levels) {
      const auto p = static_cast<double>(level.positives);
      const auto hits = static_cast<double>(all.positives - below.positives);
      wins += p * (static_cast<double>(below.negatives) + static_cast<double>(level.negatives) / 2);
      if (p > 0) sum += p * hits / (hits + static_cast<double>(all.negatives - below.negatives));
      below.positives += level.positives, below.negatives += level.negatives;
    }
    const auto p = static_cast<double>(all.positives);
    if (all.negatives) auroc[r] = wins / (p * static_cast<double>(all.negatives));
    precision[r] = sum / p;
  }

  Array<float> got_auroc(random, batch * k), got_precision(random, batch * k);
  Call call;
  call.in(scores, {batch, k, n}).in(labels, {batch, n}).out(got_auroc, {batch, k}).out(got_precision, {batch, k});
  input.run(call, ev3x_rank_metrics, {bits(got_auroc), bits(got_precision)}, [&] {
    for (int64_t r = 0; r < batch * k; ++r) {
      input.near("auroc", r, got_auroc[r], auroc[r], 1e-7);
      input.near("average_precision", r, got_precision[r], precision[r], 1e-6);
    }
  });
}

}  // namespace ev3x::fuzz
