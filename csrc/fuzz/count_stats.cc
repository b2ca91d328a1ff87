#include "fuzz/fuzz.h"

extern "C" XLA_FFI_Error* ev3x_count_stats(XLA_FFI_CallFrame*);

namespace ev3x::fuzz {

void fuzz_count_stats(Input& input) {
  Random& random = input.random;
  const bool large = input.size == Size::kLarge;
  const int64_t n = large ? random.between(60'000, 150'000) : length(random, input.size == Size::kMedium ? 9000 : 70);
  const int64_t k = large ? random.between(4, 9) : random.below(4), batch = random.below(3) + large;
  const bool masked = random.chance(0.5);
  input.shape({batch, k, n, masked});

  const int64_t classes = random.one_of<int64_t>({1, 2, 10, int64_t{1} << 32});
  const double counted = random.one_of({0.0, 0.5, 1.0});
  const auto label = [&] { return static_cast<int32_t>(random.below(classes) - classes / 2); };
  Array<int32_t> predictions(random, batch * k * n), labels(random, batch * n), reference(random, batch * n);
  Array<uint8_t> mask(random, masked ? batch * n : 0);
  for (int64_t i = 0; i < predictions.size(); ++i) predictions[i] = label();
  for (int64_t i = 0; i < labels.size(); ++i) labels[i] = label(), reference[i] = label();
  for (int64_t i = 0; i < mask.size(); ++i) mask[i] = random.chance(counted);

  Array<int32_t> correct(random, batch * k), reference_correct(random, batch), wins(random, batch * k),
      losses(random, batch * k);
  Call call;
  call.in(predictions, {batch, k, n}).in(labels, {batch, n}).in(reference, {batch, n});
  if (masked) call.in(mask, {batch, n});
  call.out(correct, {batch, k}).out(reference_correct, {batch}).out(wins, {batch, k}).out(losses, {batch, k});
  input.run(call, ev3x_count_stats, {bits(correct), bits(reference_correct), bits(wins), bits(losses)}, [&] {
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t j = 0; j < std::max<int64_t>(k, 1); ++j) {
        int32_t right = 0, other = 0, both = 0;
        for (int64_t i = b * n; i < (b + 1) * n; ++i) {
          if (masked && !mask[i]) continue;
          const bool own = k && predictions[i + (b * (k - 1) + j) * n] == labels[i];
          const bool theirs = reference[i] == labels[i];
          right += own, other += theirs, both += own && theirs;
        }
        input.equal("reference_correct", b, reference_correct[b], other);
        if (k == 0) continue;
        input.equal("correct", b * k + j, correct[b * k + j], right);
        input.equal("wins", b * k + j, wins[b * k + j], right - both);
        input.equal("losses", b * k + j, losses[b * k + j], other - both);
      }
    }
  });
}

}  // namespace ev3x::fuzz
