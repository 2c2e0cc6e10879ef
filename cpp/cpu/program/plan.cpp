#include <algorithm>
#include <cstring>

#include "operation.h"

namespace eqnet::program {
namespace {

constexpr std::int64_t kAlignment = 64;

struct Buffer {
  std::int64_t bytes;
  int first, last;  // operations during which it is in use
  std::int64_t* offset;
};

std::int64_t round_up(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Largest first, each at the lowest place that is free while it is in use.
std::int64_t place(std::vector<Buffer>& buffers) {
  std::stable_sort(buffers.begin(), buffers.end(),
                   [](const Buffer& a, const Buffer& b) { return a.bytes > b.bytes; });
  std::int64_t total = 0;
  std::vector<Buffer> done;
  for (const Buffer& buffer : buffers) {
    std::int64_t offset = 0;
    for (const Buffer& other : done) {  // in ascending order of their places
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (*other.offset >= offset + buffer.bytes) break;
      offset = std::max(offset, *other.offset + other.bytes);
    }
    *buffer.offset = offset;
    total = std::max(total, offset + buffer.bytes);
    const auto after = std::upper_bound(done.begin(), done.end(), buffer,
                                        [](const Buffer& a, const Buffer& b) { return *a.offset < *b.offset; });
    done.insert(after, buffer);
  }
  return total;
}

}  // namespace

Plan make_plan(const std::vector<std::unique_ptr<Operation>>& operations, const std::vector<ValueInfo>& values,
               std::int64_t height, std::int64_t width) {
  Plan plan;
  plan.height = height;
  plan.width = width;
  plan.values.resize(values.size());
  std::vector<int> first(values.size(), 0), last(values.size(), 0);
  for (int i = 0; i < static_cast<int>(operations.size()); ++i) {
    const Operation& operation = *operations[i];
    std::vector<ImageSize> sizes;
    for (const int x : operation.inputs) {
      sizes.push_back(plan.values[x].size);
      last[x] = i;
    }
    // The input operation has no inputs; the size of what it reads is that of the images.
    if (sizes.empty()) sizes.push_back({0, height, width});
    const ImageSize size = operation.size(sizes);
    if (operation.output < 0) continue;
    plan.values[operation.output].size = size;
    first[operation.output] = last[operation.output] = i;
  }
  std::vector<Buffer> buffers;
  for (std::size_t v = 0; v < values.size(); ++v) {
    Placed& placed = plan.values[v];
    placed.code_offset.resize(values[v].forms.size());
    for (std::size_t f = 0; f < values[v].forms.size(); ++f) {
      placed.layout.push_back(
          {placed.size.height, placed.size.width, placed.size.channels, values[v].forms[f].pads});
      buffers.push_back({round_up(placed.layout[f].image() + kSlack), first[v], last[v], &placed.code_offset[f]});
    }
    if (values[v].floats) {
      const std::int64_t count = placed.size.channels * placed.size.height * placed.size.width;
      buffers.push_back({round_up(count * static_cast<std::int64_t>(sizeof(float))), first[v], last[v],
                         &placed.float_offset});
    }
  }
  plan.bytes = place(buffers);
  return plan;
}

void fill_padding(const Frame& frame, int value) {
  const Placed& placed = frame.placed(value);
  for (std::size_t f = 0; f < placed.layout.size(); ++f) {
    const CodeLayout& layout = placed.layout[f];
    const Pads& pads = layout.pads;
    if (pads.top + pads.left + pads.bottom + pads.right == 0) continue;
    const int zero = (*frame.values)[value].forms[f].coding.zero;
    const std::int64_t sides = (pads.left + pads.right) * layout.channels;
    const std::int64_t begin = layout.origin(), end = begin + layout.height * layout.row();
    for (std::int64_t i = 0; i < frame.images; ++i) {
      std::uint8_t* image = frame.codes(value, static_cast<int>(f)) + i * layout.image();
      std::memset(image, zero, begin);
      // The right end of a row and the left end of the next one are one piece of memory.
      for (std::int64_t y = 1; y < layout.height && sides > 0; ++y) {
        std::memset(image + begin + y * layout.row() - sides, zero, sides);
      }
      std::memset(image + end - sides, zero, layout.image() - (end - sides));
    }
  }
}

}  // namespace eqnet::program
