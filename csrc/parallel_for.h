// Runs body(0..n-1) on XLA's thread pool. body must not throw and must write its result per index, so that
// what is computed cannot depend on the number of threads.
#ifndef EV3X_PARALLEL_FOR_H_
#define EV3X_PARALLEL_FOR_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "tsan.h"
#include "xla/ffi/api/ffi.h"

namespace ev3x {

template <class Body>
void parallel_for(xla::ffi::ThreadPool& pool, int64_t n, int64_t max_threads, Body&& body) {
  const int64_t threads = max_threads <= 1 ? 1 : std::min({pool.num_threads(), n, max_threads});
  if (threads <= 1) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    int64_t n;
    const std::remove_reference_t<Body>* body;
  };
  auto state = std::make_shared<State>();  // outlives this call: a late helper still looks at `next`
  state->n = n;
  state->body = &body;
  auto work = [](State& s) {
    for (int64_t i; (i = s.next.fetch_add(1)) < s.n;) {
      (*s.body)(i);
      if (s.done.fetch_add(1) + 1 == s.n) s.done.notify_all();
    }
  };
  {
    [[maybe_unused]] const tsan::HandOver marked{};
    for (int64_t t = 1; t < threads; ++t) {
      pool.Schedule([state, work] {
        tsan::start();
        work(*state);
      });
    }
  }
  work(*state);
  // Waits only for items that somebody has started, never for a task that has not: this cannot deadlock.
  for (int64_t done; (done = state->done.load()) < n;) state->done.wait(done);
}

}  // namespace ev3x

#endif  // EV3X_PARALLEL_FOR_H_
