// A handler with the bugs that sanitizers are there for, each on demand: they are to be found in a process of Python
// and of a JAX that know nothing of sanitizers. Built with EV3X_SANITIZE only, never shipped.
#include <chrono>
#include <limits>
#include <thread>

#include "cpu/handler.h"

namespace ev3x {
namespace {

enum Bug { kNone, kWriteBeyond, kReadBeyond, kOverflow, kRace };

ffi::Error handle(ffi::ThreadPool pool, ffi::Buffer<ffi::S32> x, int64_t bug, ffi::Result<ffi::Buffer<ffi::S32>> y) {
  const auto n = static_cast<int64_t>(x.element_count());
  const int32_t* in = x.typed_data();
  int32_t* out = y->typed_data();
  int64_t sum = 0;
  parallel_for(pool, n, n, [&](int64_t i) {
    if (bug == kRace) ++sum;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // so that other threads take part
    out[i] = in[i];
  });
  if (bug == kWriteBeyond) out[n] = 1;
  if (bug == kReadBeyond) out[0] = in[n];
  if (bug == kOverflow) out[0] = in[0] + std::numeric_limits<int32_t>::max();
  if (bug == kRace) out[0] = static_cast<int32_t>(sum);
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* ev3x_probe(XLA_FFI_CallFrame*);
XLA_FFI_DEFINE_HANDLER_SYMBOL(ev3x_probe, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Attr<int64_t>("bug")
                                  .Ret<ffi::Buffer<ffi::S32>>());

}  // namespace ev3x
