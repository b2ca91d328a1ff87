// Random inputs for the CPU handlers, compared with plain references: `ev3x_fuzz --help`. Not part of the module.
//
// Handlers are called as XLA calls them, through a call frame, but on a thread pool of our own and with operands and
// results in heap blocks that end exactly where they end: built with EV3X_SANITIZE, a byte too far is a report.
#ifndef EV3X_FUZZ_FUZZ_H_
#define EV3X_FUZZ_FUZZ_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "cpu/isa.h"
#include "xla/ffi/api/c_api.h"

namespace ev3x::fuzz {

struct BFloat16 {
  uint16_t bits;
};

// splitmix64: one sequence per seed.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  bool chance(double p) { return uniform() < p; }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }

 private:
  uint64_t state_;
};

// "lowbias32" of C. Wellons' hash prospector, revised constants.
inline uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x = (x ^ (x >> 15)) * 0xd35a2d97u;
  return x ^ (x >> 15);
}

// At most `most`: often tiny, often about a power of two.
inline int64_t length(Random& random, int64_t most) {
  const int64_t kind = random.below(4);
  const int64_t n = kind == 0   ? random.below(5)
                    : kind == 1 ? (int64_t{1} << random.below(15)) + random.between(-1, 1)
                                : random.below(most + 1);
  return std::min(n, most);
}

// n elements at the end of a heap block, at any offset that their type allows.
template <class T>
class Array {
 public:
  Array(Random& random, int64_t n) : size_(n) {
    const size_t before = sizeof(T) * static_cast<size_t>(random.below(17));
    block_.reset(static_cast<char*>(std::malloc(before + sizeof(T) * static_cast<size_t>(n))));
    data_ = reinterpret_cast<T*>(block_.get() + before);
    std::memset(static_cast<void*>(data_), 0xa5, sizeof(T) * static_cast<size_t>(n));
  }
  T* data() { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  struct Free {
    void operator()(char* block) const { std::free(block); }
  };
  int64_t size_;
  std::unique_ptr<char, Free> block_;
  T* data_;
};

// A family of floats, from tame to anything that 32 bits can hold.
enum class Kind { kNormal, kOffset, kTies, kConstant, kWide, kTiny, kHuge, kSpecial, kBits };
inline constexpr int kKinds = 9;
inline Kind any_kind(Random& random) { return static_cast<Kind>(random.below(kKinds)); }

class Floats {
 public:
  Floats(Random& random, Kind kind) : random_(random), kind_(kind), centre_(static_cast<float>(random.between(-9, 9))) {}
  float operator()() {
    switch (kind_) {
      case Kind::kNormal:
        return normal();
      case Kind::kOffset:
        return 1e4f * centre_ + 1e-2f * normal();
      case Kind::kTies:
        return static_cast<float>(random_.between(-2, 2)) + (random_.chance(0.5) ? 0.0f : -0.0f);
      case Kind::kConstant:
        return centre_ * 0.37f;
      case Kind::kWide:
        return normal() * std::exp2(static_cast<float>(random_.between(-40, 40)));
      case Kind::kTiny:  // about the smallest normal numbers, and below them
        return normal() * std::exp2(static_cast<float>(random_.between(-149, -120)));
      case Kind::kHuge:
        return std::numeric_limits<float>::max() * static_cast<float>(2 * random_.uniform() - 1);
      case Kind::kSpecial:
        return special();
      case Kind::kBits:
        break;
    }
    const auto bits = static_cast<uint32_t>(random_.bits());
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  // NaN, infinities, zeros and the ends of the range, among ordinary numbers.
  float special() {
    using limits = std::numeric_limits<float>;
    if (random_.chance(0.5)) return normal();
    return random_.one_of({limits::quiet_NaN(), limits::infinity(), -limits::infinity(), 0.0f, -0.0f, limits::max(),
                           limits::lowest(), limits::min(), limits::denorm_min(), -limits::denorm_min()});
  }

 private:
  float normal() {  // nearly
    return static_cast<float>(random_.uniform() + random_.uniform() + random_.uniform() - 1.5) * 2;
  }
  Random& random_;
  Kind kind_;
  float centre_;
};

template <class T>
constexpr XLA_FFI_DataType type_of() {
  if constexpr (std::is_same_v<T, float>) return XLA_FFI_DataType_F32;
  if constexpr (std::is_same_v<T, double>) return XLA_FFI_DataType_F64;
  if constexpr (std::is_same_v<T, BFloat16>) return XLA_FFI_DataType_BF16;
  if constexpr (std::is_same_v<T, uint8_t>) return XLA_FFI_DataType_PRED;
  if constexpr (std::is_same_v<T, int32_t>) return XLA_FFI_DataType_S32;
  if constexpr (std::is_same_v<T, uint32_t>) return XLA_FFI_DataType_U32;
  if constexpr (std::is_same_v<T, int64_t>) return XLA_FFI_DataType_S64;
}

// One call of a handler: operands and results in its order, attributes in any.
class Call {
 public:
  template <class T>
  Call& in(Array<T>& array, std::vector<int64_t> shape) {
    return add(operands_, type_of<T>(), array.data(), std::move(shape));
  }
  template <class T>
  Call& out(Array<T>& array, std::vector<int64_t> shape) {
    return add(results_, type_of<T>(), array.data(), std::move(shape));
  }
  template <class T>
  Call& attribute(const std::string& name, T value) {
    Scalar& scalar = attributes_[name];
    scalar.type = type_of<T>();
    std::memcpy(scalar.value, &value, sizeof value);
    return *this;
  }
  template <class T>
  Call& attribute(const std::string& name, const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const char*>(values.data());
    lists_[name] = {type_of<T>(), values.size(), {bytes, bytes + sizeof(T) * values.size()}};
    return *this;
  }
  // Returns the handler's error message, empty if there is none. `flush`: with subnormal numbers as zero, as XLA may.
  std::string run(XLA_FFI_Handler* handler, int64_t threads, bool flush);

 private:
  struct Buffer {
    XLA_FFI_DataType type;
    void* data;
    std::vector<int64_t> shape;
  };
  struct Scalar {
    XLA_FFI_DataType type;
    alignas(8) char value[8];
  };
  struct List {
    XLA_FFI_DataType type;
    size_t size;
    std::vector<char> bytes;
  };
  Call& add(std::vector<Buffer>& to, XLA_FFI_DataType type, void* data, std::vector<int64_t> shape) {
    to.push_back({type, data, std::move(shape)});
    return *this;
  }
  std::vector<Buffer> operands_, results_;
  std::map<std::string, Scalar> attributes_;
  std::map<std::string, List> lists_;
};

enum class Size { kSmall, kMedium, kLarge };  // beyond a block; beyond a task

// One input of one operation: where it comes from, and what is wrong with it.
class Input {
 public:
  Input(const char* op, uint64_t seed, int64_t index, Size size, std::set<std::vector<int64_t>>& shapes);

  Random random;
  const Size size;
  bool flush;

  // Of the input, for the report of how many there were.
  void shape(std::vector<int64_t> dims) { shapes_.insert(dims), shape_ = std::move(dims); }

  // Makes the call with every instruction set of this machine, `check` after each. Large inputs go through any number
  // of threads, and again through one: `results` are the blocks that must then hold the same bits.
  using Bits = std::vector<std::pair<const void*, size_t>>;
  void run(Call& call, XLA_FFI_Handler* handler, const Bits& results, const std::function<void()>& check);

  [[noreturn]] void fail(const std::string& what) const;
  void expect(bool holds, const char* what, int64_t at) const {
    if (!holds) fail(std::string(what) + " at " + std::to_string(at));
  }
  template <class T>
  void equal(const char* what, int64_t at, T got, T want) const {
    if (got != want) differ(what, at, static_cast<double>(got), static_cast<double>(want), 0);
  }
  // NaN meets NaN only, infinity what no float can hold.
  void near(const char* what, int64_t at, double got, double want, double tolerance) const {
    if (std::fabs(want) > std::numeric_limits<float>::max()) want = std::copysign(INFINITY, want);
    if (std::isnan(want) ? std::isnan(got) : got == want || std::fabs(got - want) <= tolerance) return;
    differ(what, at, got, want, tolerance);
  }

 private:
  [[noreturn]] void differ(const char* what, int64_t at, double got, double want, double tolerance) const;
  const char* op_;
  uint64_t seed_;
  int64_t index_;
  const char* isa_ = "";
  std::vector<int64_t> shape_;
  std::set<std::vector<int64_t>>& shapes_;
};

template <class T>
std::pair<const void*, size_t> bits(Array<T>& array) {
  return {array.data(), sizeof(T) * static_cast<size_t>(array.size())};
}

std::vector<Isa> isas();
const char* name(Isa isa);

using Fuzz = void(Input&);

}  // namespace ev3x::fuzz

#endif  // EV3X_FUZZ_FUZZ_H_
