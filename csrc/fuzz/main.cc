#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "fuzz/fuzz.h"

#define EV3X_FOR_EACH_OP(X) \
  X(score_stats)            \
  X(score_moments)          \
  X(pareto_ranks)           \
  X(rank_metrics)           \
  X(bootstrap_poisson)      \
  X(bootstrap_multinomial)

namespace ev3x::fuzz {

#define EV3X_DECLARE(op) void fuzz_##op(Input&);
EV3X_FOR_EACH_OP(EV3X_DECLARE)
#undef EV3X_DECLARE

Input::Input(const char* op, uint64_t seed, int64_t index, Size size, std::set<std::vector<int64_t>>& shapes)
    : random(Random(seed ^ Random(static_cast<uint64_t>(index)).bits()).bits()),
      size(size),
      flush(random.chance(0.3)),
      op_(op),
      seed_(seed),
      index_(index),
      shapes_(shapes) {}

void Input::run(Call& call, XLA_FFI_Handler* handler, const Bits& results, const std::function<void()>& check) {
  for (const Isa isa : isas()) {
    use_isa(isa);
    isa_ = name(isa);
    const std::string error = call.run(handler, random.between(1, 4), flush);
    if (!error.empty()) fail(error);
    check();
    if (size != Size::kLarge) continue;
    std::vector<std::vector<char>> before;
    for (const auto& [data, bytes] : results)
      before.emplace_back(static_cast<const char*>(data), static_cast<const char*>(data) + bytes);
    call.run(handler, 1, flush);
    for (size_t i = 0; i < results.size(); ++i)
      if (results[i].second && std::memcmp(before[i].data(), results[i].first, results[i].second) != 0)
        fail("result " + std::to_string(i) + " depends on the number of threads");
  }
}

void Input::fail(const std::string& what) const {
  std::string dims;
  for (const int64_t n : shape_) dims += (dims.empty() ? "" : ", ") + std::to_string(n);
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s; %s, shape [%s]%s\n  again: --op %s --seed %llu --first %lld --inputs 1\n", op_,
               what.c_str(), isa_, dims.c_str(), flush ? ", subnormals flushed" : "", op_,
               static_cast<unsigned long long>(seed_), static_cast<long long>(index_));
  std::_Exit(1);
}

void Input::differ(const char* what, int64_t at, double got, double want, double tolerance) const {
  char text[200];
  std::snprintf(text, sizeof text, "%s[%lld] is %.9g, not %.9g +- %.2g", what, static_cast<long long>(at), got, want,
                tolerance);
  fail(text);
}

std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) all.push_back(static_cast<Isa>(i));
  return all;
}

const char* name(Isa isa) { return isa == Isa::kV4 ? "v4" : isa == Isa::kV3 ? "v3" : "baseline"; }

namespace {

// Every 64th input is of medium size, every 4096th large.
Size size_of(int64_t index) {
  return index % 4096 == 7 ? Size::kLarge : index % 64 == 3 ? Size::kMedium : Size::kSmall;
}

void run(const char* op, Fuzz* fuzz, uint64_t seed, int64_t first, int64_t inputs) {
  std::set<std::vector<int64_t>> shapes;
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = first; i < first + inputs; ++i) {
    Input input(op, seed, i, size_of(i), shapes);
    fuzz(input);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::string sets;
  for (const Isa isa : isas()) sets += std::string(sets.empty() ? "" : "+") + name(isa);
  std::printf("%-21s %9lld inputs %8zu shapes  %s  %.1f s\n", op, static_cast<long long>(inputs), shapes.size(),
              sets.c_str(), seconds.count());
  std::fflush(stdout);
}

int main(int argc, char** argv) {
  uint64_t seed = 0;
  int64_t first = 0, inputs = 20000;
  std::string_view only;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    const auto number = [&value](auto& to) {
      return std::from_chars(value.data(), value.data() + value.size(), to).ptr == value.data() + value.size() &&
             !value.empty();
    };
    if (option == "--op" && !value.empty()) {
      only = value;
    } else if (!(option == "--seed"     ? number(seed)
                 : option == "--inputs" ? number(inputs)
                 : option == "--first"  ? number(first)
                                        : false)) {
      std::fprintf(stderr, "usage: ev3x_fuzz [--op NAME] [--seed N] [--inputs N] [--first N]\n");
      return 2;
    }
  }
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  bool any = false;
#define EV3X_RUN(op) \
  if (only.empty() || only == #op) any = true, run(#op, fuzz_##op, seed, first, inputs);
  EV3X_FOR_EACH_OP(EV3X_RUN)
#undef EV3X_RUN
  if (!any) std::fprintf(stderr, "no such operation\n");
  return any ? 0 : 2;
}

}  // namespace
}  // namespace ev3x::fuzz

int main(int argc, char** argv) { return ev3x::fuzz::main(argc, argv); }
