// ev3x.ops._native: hands the XLA FFI handlers to Python as capsules. Nothing is registered here.
#include <nanobind/nanobind.h>

#include "xla/ffi/api/c_api.h"

namespace nb = nanobind;

// Every handler of csrc/<op>/cpu.cc. A target's name is its symbol's.
#define EV3X_FOR_EACH_TARGET(X)    \
  X(ev3x_count_stats)              \
  X(ev3x_count_stats_masked)       \
  X(ev3x_lexicase)                 \
  X(ev3x_pareto_ranks)             \
  X(ev3x_rank_metrics)             \
  X(ev3x_score_stats_f32)          \
  X(ev3x_score_stats_bool)         \
  X(ev3x_score_stats_weighted_f32) \
  X(ev3x_score_stats_weighted_bool)

#define EV3X_DECLARE(name) extern "C" XLA_FFI_Error* name(XLA_FFI_CallFrame*);
EV3X_FOR_EACH_TARGET(EV3X_DECLARE)
#undef EV3X_DECLARE

NB_MODULE(_native, m) {
  m.def(
      "targets",
      [] {
        nb::dict all;
#define EV3X_ADD(name) all[#name] = nb::capsule(reinterpret_cast<void*>(&name), "xla._CUSTOM_CALL_TARGET");
        EV3X_FOR_EACH_TARGET(EV3X_ADD)
#undef EV3X_ADD
        return all;
      },
      "Capsules of the CPU handlers by target name.");
  m.attr("FFI_API_VERSION") = nb::make_tuple(XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR);
  m.attr("COMPILER") = __VERSION__;
}
