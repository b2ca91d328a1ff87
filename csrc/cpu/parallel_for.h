// Runs body(0..n-1) on XLA's thread pool; a body may ask for its worker too: body(i, worker). It must not throw, so its
// scratch is allocated before, one for each of count_workers(...), and it must write its result per index, so that what
// is computed cannot depend on the number of threads.
#ifndef EV3X_PARALLEL_FOR_H_
#define EV3X_PARALLEL_FOR_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "cpu/tsan.h"
#include "xla/ffi/api/ffi.h"

namespace ev3x {

inline int64_t count_workers(const xla::ffi::ThreadPool& pool, int64_t n, int64_t max_threads) {
  return max_threads <= 1 ? 1 : std::max<int64_t>(1, std::min({pool.num_threads(), n, max_threads}));
}

template <class Body>
void parallel_for(xla::ffi::ThreadPool& pool, int64_t n, int64_t max_threads, const Body& body) {
  const auto call = [](const Body& run, int64_t i, int64_t worker) {
    if constexpr (std::is_invocable_v<const Body&, int64_t, int64_t>)
      run(i, worker);
    else
      run(i);
  };
  const int64_t workers = count_workers(pool, n, max_threads);
  if (workers <= 1) {
    for (int64_t i = 0; i < n; ++i) call(body, i, 0);
    return;
  }
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    int64_t n;
    const Body* body;
  };
  auto state = std::make_shared<State>();  // outlives this call: a late helper still looks at `next`
  state->n = n;
  state->body = &body;
  auto work = [call](State& s, int64_t worker) {
    for (int64_t i; (i = s.next.fetch_add(1)) < s.n;) {
      call(*s.body, i, worker);
      if (s.done.fetch_add(1) + 1 == s.n) s.done.notify_all();
    }
  };
  try {
    [[maybe_unused]] const tsan::HandOver marked{};
    for (int64_t w = 1; w < workers; ++w) {
      pool.Schedule([state, work, w] {
        tsan::start();
        work(*state, w);
      });
    }
  } catch (...) {  // out of memory: fewer helpers, for those that run hold `body`
  }
  work(*state, 0);
  // Waits only for items that somebody has started, never for a task that has not: this cannot deadlock.
  for (int64_t done; (done = state->done.load()) < n;) state->done.wait(done);
}

}  // namespace ev3x

#endif  // EV3X_PARALLEL_FOR_H_
