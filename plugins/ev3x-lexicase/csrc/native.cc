// ev3x_lexicase._native: the XLA custom call, and its handler as a capsule for Python. Nothing is registered here.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>

#include "shares.h"
#include "xla/ffi/api/ffi.h"

namespace ev3x_lexicase {
namespace {

namespace ffi = xla::ffi;

using Dims = ffi::Span<const int64_t>;

// Whether `dims` are the first `lead` of `scores`, and then `last`.
bool are(Dims dims, Dims scores, size_t lead, int64_t last) {
  return dims.size() == lead + 1 && std::equal(dims.begin(), dims.begin() + lead, scores.begin()) &&
         dims[lead] == last;
}

// Any number of leading axes: vmap adds them. All memory is XLA's: what a problem needs while it is solved are results
// too, that Python drops. Python checks shapes with better words; what would read beyond memory is checked here.
ffi::Error handle(ffi::Buffer<ffi::F32> scores, ffi::Buffer<ffi::U32> words, ffi::Buffer<ffi::PRED> eligible,
                  ffi::Buffer<ffi::PRED> counts, int32_t tournaments, float epsilon, ffi::ResultBuffer<ffi::U32> votes,
                  ffi::ResultBuffer<ffi::U32> places, ffi::ResultBuffer<ffi::F32> numbers) {
  const Dims dims = scores.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("lexicase: scores must be [..., K, n]");
  const size_t lead = dims.size() - 2;
  const int64_t candidates = dims[lead], cases = dims[lead + 1];
  const int64_t each_place = 2 * cases + candidates, each_number = cases + candidates;
  for (const auto& [name, given, last] : {std::tuple{"words", words.dimensions(), int64_t{2}},
                                          std::tuple{"eligible", eligible.dimensions(), candidates},
                                          std::tuple{"counts", counts.dimensions(), cases},
                                          std::tuple{"votes", votes->dimensions(), candidates},
                                          std::tuple{"places", places->dimensions(), each_place},
                                          std::tuple{"numbers", numbers->dimensions(), each_number}})
    if (!are(given, dims, lead, last))
      return ffi::Error::InvalidArgument(std::string("lexicase: the shape of ") + name + " does not fit the scores'");
  if (std::max(candidates, cases) > INT32_MAX) return ffi::Error::InvalidArgument("lexicase: K or n beyond int32");
  if (tournaments < 1 || static_cast<uint32_t>(tournaments) > kMost)
    return ffi::Error::InvalidArgument("lexicase: tournaments must be from 1 to 65535");

  std::fill_n(votes->typed_data(), votes->element_count(), 0u);
  const int64_t problems = static_cast<int64_t>(words.element_count() / 2);
  for (int64_t p = 0; p < problems; ++p) {
    uint32_t* place = places->typed_data() + p * each_place;
    float* number = numbers->typed_data() + p * each_number;
    const uint32_t* key = words.typed_data() + p * 2;
    const Field field{.scores = scores.typed_data() + p * candidates * cases,
                      .eligible = eligible.typed_data() + p * candidates,
                      .counts = counts.typed_data() + p * cases,
                      .candidates = candidates,
                      .cases = cases,
                      .order = place,
                      .drawn = place + cases,
                      .pool = place + 2 * cases,
                      .margins = number,
                      .column = number + cases};
    hold(field, {key[0], key[1]}, static_cast<uint32_t>(tournaments), epsilon, votes->typed_data() + p * candidates);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER(kVotesHandler, handle,
                       ffi::Ffi::Bind()
                           .Arg<ffi::Buffer<ffi::F32>>()
                           .Arg<ffi::Buffer<ffi::U32>>()
                           .Arg<ffi::Buffer<ffi::PRED>>()
                           .Arg<ffi::Buffer<ffi::PRED>>()
                           .Attr<int32_t>("tournaments")
                           .Attr<float>("epsilon")
                           .Ret<ffi::Buffer<ffi::U32>>()
                           .Ret<ffi::Buffer<ffi::U32>>()
                           .Ret<ffi::Buffer<ffi::F32>>());

}  // namespace ev3x_lexicase

PYBIND11_MODULE(_native, m) {
  m.def(
      "votes",
      [] {
        return pybind11::capsule(reinterpret_cast<void*>(ev3x_lexicase::kVotesHandler), "xla._CUSTOM_CALL_TARGET");
      },
      "The CPU handler of ev3x_lexicase_votes, as XLA takes it.");
}
