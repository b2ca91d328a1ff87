#include "cpu/isa.h"

#include <atomic>

namespace ev3x {
namespace {

std::atomic<Isa> in_use{best_isa()};

}  // namespace

Isa best_isa() {
#ifdef EV3X_X86_LEVELS
  if (__builtin_cpu_supports("x86-64-v4")) return Isa::kV4;
  if (__builtin_cpu_supports("x86-64-v3")) return Isa::kV3;
#endif
  return Isa::kBaseline;
}

Isa isa() { return in_use.load(std::memory_order_relaxed); }

void use_isa(Isa wanted) { in_use.store(wanted <= best_isa() ? wanted : best_isa()); }

}  // namespace ev3x
