// What a handler sees of XLA: a call frame and a thread pool.
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "fuzz/fuzz.h"

#ifdef __SSE__
#include <immintrin.h>
#endif

namespace ev3x::fuzz {
namespace {

// Sets how this thread takes subnormal numbers, until it is gone.
class Mode {
 public:
#ifdef __SSE__
  explicit Mode(bool flush) : before_(_mm_getcsr()) { _mm_setcsr(flush ? before_ | 0x8040 : before_ & ~0x8040u); }
  ~Mode() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  explicit Mode(bool) {}
#endif
};

struct Task {
  XLA_FFI_Task* run;
  void* data;
  bool flush;
};

// As XLA's: tasks may start late, after the call that scheduled them has returned.
class Pool {
 public:
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    ready_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  void schedule(Task task) {
    {
      const std::lock_guard lock(mutex_);
      if (workers_.empty())
        for (int i = 0; i < 3; ++i) workers_.emplace_back([this] { work(); });
      tasks_.push_back(task);
    }
    ready_.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const Task task = tasks_.front();
      tasks_.pop_front();
      lock.unlock();
      const Mode mode(task.flush);
      task.run(task.data);
    }
  }
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Task> tasks_;
  std::vector<std::thread> workers_;
  bool stop_ = false;
};

Pool pool;

struct Context {
  int64_t threads;
  bool flush;
};
const Context& context(XLA_FFI_ExecutionContext* ctx) { return *reinterpret_cast<const Context*>(ctx); }

XLA_FFI_Error* schedule(XLA_FFI_ThreadPool_Schedule_Args* args) {
  pool.schedule({args->task, args->data, context(args->ctx).flush});
  return nullptr;
}

XLA_FFI_Error* num_threads(XLA_FFI_ThreadPool_NumThreads_Args* args) {
  *args->num_threads = context(args->ctx).threads;
  return nullptr;
}

XLA_FFI_Error* create_error(XLA_FFI_Error_Create_Args* args) {
  return reinterpret_cast<XLA_FFI_Error*>(new std::string(args->message));
}

const XLA_FFI_Api& api() {
  static const XLA_FFI_Api made = [] {
    XLA_FFI_Api api{};
    api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
    api.api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
    api.XLA_FFI_Error_Create = create_error;
    api.XLA_FFI_ThreadPool_Schedule = schedule;
    api.XLA_FFI_ThreadPool_NumThreads = num_threads;
    return api;
  }();
  return made;
}

}  // namespace

std::string Call::run(XLA_FFI_Handler* handler, int64_t threads, bool flush) {
  std::vector<XLA_FFI_Buffer> buffers;
  buffers.reserve(operands_.size() + results_.size());
  const auto point = [&buffers](std::vector<Buffer>& from) {
    std::vector<void*> pointers;
    for (Buffer& b : from) {
      buffers.push_back({XLA_FFI_Buffer_STRUCT_SIZE, nullptr, b.type, b.data, static_cast<int64_t>(b.shape.size()),
                         b.shape.data()});
      pointers.push_back(&buffers.back());
    }
    return pointers;
  };
  std::vector<void*> operands = point(operands_), results = point(results_), attributes;
  std::vector<XLA_FFI_ArgType> operand_types(operands.size(), XLA_FFI_ArgType_BUFFER);
  std::vector<XLA_FFI_RetType> result_types(results.size(), XLA_FFI_RetType_BUFFER);
  // XLA sorts attributes by name.
  std::set<std::string> names;
  for (const auto& each : attributes_) names.insert(each.first);
  for (const auto& each : lists_) names.insert(each.first);
  std::vector<XLA_FFI_AttrType> attribute_types;
  std::vector<XLA_FFI_Scalar> scalars(names.size());
  std::vector<XLA_FFI_Array> arrays(names.size());
  std::vector<XLA_FFI_ByteSpan> spans(names.size());
  std::vector<XLA_FFI_ByteSpan*> name_pointers;
  for (const std::string& name : names) {
    const size_t at = attributes.size();
    const bool scalar = attributes_.count(name) > 0;
    if (scalar) {
      scalars[at] = {attributes_[name].type, attributes_[name].value};
      attributes.push_back(&scalars[at]);
    } else {
      List& list = lists_[name];
      arrays[at] = {list.type, list.size, list.bytes.data()};
      attributes.push_back(&arrays[at]);
    }
    attribute_types.push_back(scalar ? XLA_FFI_AttrType_SCALAR : XLA_FFI_AttrType_ARRAY);
    spans[at] = {name.data(), name.size()};
    name_pointers.push_back(&spans[at]);
  }

  Context here{threads, flush};
  XLA_FFI_CallFrame frame{};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.api = &api();
  frame.ctx = reinterpret_cast<XLA_FFI_ExecutionContext*>(&here);
  frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, static_cast<int64_t>(operands.size()), operand_types.data(),
                operands.data()};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, static_cast<int64_t>(results.size()), result_types.data(),
                results.data()};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr, static_cast<int64_t>(attributes.size()), attribute_types.data(),
                 name_pointers.data(), attributes.data()};
  const Mode mode(flush);
  const std::unique_ptr<std::string> error(reinterpret_cast<std::string*>(handler(&frame)));
  return error ? *error : "";
}

}  // namespace ev3x::fuzz
