#include "operation.h"

#include <algorithm>
#include <cmath>

namespace eqnet::program {
namespace {

std::uint8_t bounded_code(float bound, const InputCoding& coding) {
  const float code = std::nearbyint(bound / coding.scale) + static_cast<float>(coding.zero);
  return static_cast<std::uint8_t>(std::min(std::max(code, 0.0f), static_cast<float>(coding.levels - 1)));
}

}  // namespace

Finish ValueInfo::finish() const {
  Finish result{};
  result.targets = static_cast<int>(forms.size());
  for (std::size_t f = 0; f < forms.size(); ++f) {
    const InputCoding& coding = forms[f].coding;
    result.coding[f] = {coding.scale, 1.0f / coding.scale, coding.zero, bounded_code(bounds.low, coding),
                        bounded_code(bounds.high, coding)};
  }
  result.has_value = floats;
  result.low = bounds.low;
  result.high = bounds.high;
  return result;
}

float* Frame::floats(int value) const {
  if (output != nullptr && value == output_value) return output;
  return reinterpret_cast<float*>(arena + placed(value).float_offset * images);
}

std::uint8_t* Frame::codes(int value, int form) const { return arena + placed(value).code_offset[form] * images; }

CodeTarget Frame::target(int value, int form) const {
  const CodeLayout& layout = placed(value).layout[form];
  return {codes(value, form) + layout.origin(), layout.row(), layout.image()};
}

void Frame::write_row(int value, std::int64_t image, std::int64_t y, const float* row, const Finish& finish) const {
  const ImageSize& size = placed(value).size;
  const std::int64_t count = size.width * size.channels;
  std::uint8_t* code[kMaxTargets] = {};
  for (int f = 0; f < finish.targets; ++f) {
    const CodeTarget to = target(value, f);
    code[f] = to.data + image * to.image + y * to.row;
  }
  float* to = finish.has_value ? floats(value) + (image * size.height + y) * count : nullptr;
  finish_values(row, count, finish, code, to, isa);
}

std::int64_t Operation::parts(const Frame& frame, std::int64_t wanted) const {
  if (output < 0) return 1;
  return std::max<std::int64_t>(1, std::min(wanted, frame.images * frame.placed(output).size.height));
}

}  // namespace eqnet::program
