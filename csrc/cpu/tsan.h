// What ThreadSanitizer cannot see, for XLA is not instrumented: that a task of its pool starts after it was handed over.
#ifndef EV3X_TSAN_H_
#define EV3X_TSAN_H_

namespace ev3x::tsan {

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);

inline char pool;

// Lives while tasks are handed over; what is written meanwhile, the tasks themselves, is not looked at.
struct HandOver {
  HandOver() {
    __tsan_release(&pool);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~HandOver() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
};
inline void start() { __tsan_acquire(&pool); }
#else
struct HandOver {};
inline void start() {}
#endif

}  // namespace ev3x::tsan

#endif  // EV3X_TSAN_H_
