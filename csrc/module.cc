// ev3x.ops._native: hands the XLA FFI handlers to Python as capsules. Nothing is registered here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "xla/ffi/api/c_api.h"

namespace nb = nanobind;

// Every handler of csrc/<op>/cpu.cc. A target's name is its symbol's.
#define EV3X_FOR_EACH_TARGET(X) \
  X(ev3x_bootstrap_multinomial) \
  X(ev3x_bootstrap_poisson)     \
  X(ev3x_pareto_ranks)          \
  X(ev3x_rank_metrics)          \
  X(ev3x_score_moments)         \
  X(ev3x_score_stats)

#define EV3X_DECLARE(name) extern "C" XLA_FFI_Error* name(XLA_FFI_CallFrame*);
EV3X_FOR_EACH_TARGET(EV3X_DECLARE)
#undef EV3X_DECLARE

namespace {

// The sets of this build that this machine runs, from the plainest.
std::vector<std::string> isas() {
#ifdef EV3X_X86_LEVELS
  const std::vector<std::string> all{"baseline", "x86-64-v3", "x86-64-v4"};
#else
  const std::vector<std::string> all{"baseline"};
#endif
  return {all.begin(), all.begin() + 1 + static_cast<int>(ev3x::best_isa())};
}

void use_isa(const std::string& name) {
  const std::vector<std::string> known = isas();
  for (size_t i = 0; i < known.size(); ++i)
    if (known[i] == name) return ev3x::use_isa(static_cast<ev3x::Isa>(i));
  std::string list;
  for (const std::string& each : known) list += (list.empty() ? "" : ", ") + each;
  throw std::invalid_argument("instruction set must be one of " + list + "; got " + name);
}

}  // namespace

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
  m.def("isas", &isas, "The instruction sets that kernels are built for and this machine runs, from the plainest.");
  m.def("isa", [] { return isas()[static_cast<size_t>(ev3x::isa())]; }, "The instruction set in use.");
  m.def("use_isa", &use_isa, nb::arg("name"), "Takes kernels for this instruction set from now on, in all threads.");
  m.attr("FFI_API_VERSION") = nb::make_tuple(XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR);
  m.attr("COMPILER") = __VERSION__;
}
