#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../planes.h"
#include "../scales.h"
#include "eqnet/serialized.h"
#include "reader.h"

namespace eqnet {
namespace {

using serialized::Reader;
using serialized::Weight;

constexpr std::int64_t kMostPixels = 65535;   // of a kernel, a step or a dilation
constexpr std::int64_t kMostPadding = 4095;   // on each side: it takes memory
constexpr std::int64_t kMostChannels = 1 << 24;

// What operations are read with.
struct Source {
  Reader& reader;
  const std::vector<Weight>& weights;
  Program& program;
  std::int64_t values;  // that there are

  int value(const char* name, std::int64_t least = 0) {
    return static_cast<int>(reader.integer(name, least, values - 1));
  }
  std::int64_t pixels(const char* name, std::int64_t least) { return reader.integer(name, least, kMostPixels); }
  Pads pads(std::int64_t most_height, std::int64_t most_width) {
    Pads pads;
    pads.top = reader.integer("padding at the top", 0, most_height);
    pads.left = reader.integer("padding at the left", 0, most_width);
    pads.bottom = reader.integer("padding at the bottom", 0, most_height);
    pads.right = reader.integer("padding at the right", 0, most_width);
    return pads;
  }
  Bounds bounds() {
    const float low = reader.real("least result"), high = reader.real("greatest result");
    if (low > high) reader.fail("its least result is greater than its greatest one");
    return {low, high};
  }
};

// Codes less zero points, and scales, as convolutions take them.
struct Unpacked {
  std::vector<std::int16_t> codes;
  std::vector<float> scales;  // [rows, groups]

  explicit Unpacked(const Weight& w)
      : codes(static_cast<std::size_t>(w.rows * w.cols)), scales(static_cast<std::size_t>(w.rows * w.groups())) {
    const std::int64_t groups = w.groups();
    std::vector<std::uint8_t> row(static_cast<std::size_t>(w.cols + 4)), zeros(static_cast<std::size_t>(groups + 4));
    std::fill(zeros.begin(), zeros.end(), static_cast<std::uint8_t>(1 << (w.bits - 1)));
    for (std::int64_t r = 0; r < w.rows; ++r) {
      const std::int64_t first = w.scale_per_row ? r * groups : 0;
      unpack_codes(w.codes, w.rows * w.cols, r * w.cols, w.cols, w.bits, row.data());
      if (!w.symmetric) unpack_codes(w.zero_point, w.scales(), first, groups, w.bits, zeros.data());
      for (std::int64_t g = 0; g < groups; ++g) {
        scales[r * groups + g] = scale_at(w.scale, w.scale_type, first + g);
        for (std::int64_t c = g * w.group_size; c < std::min((g + 1) * w.group_size, w.cols); ++c) {
          codes[r * w.cols + c] = static_cast<std::int16_t>(row[c] - zeros[g]);
        }
      }
    }
  }
};

void convolution(Source& s) {
  Reader& in = s.reader;
  const int x = s.value("value");
  const Weight& weight = s.weights.at(in.integer("weight", 0, static_cast<std::int64_t>(s.weights.size()) - 1));
  ConvShape shape{};
  shape.in_channels = in.integer("channels of the input", 1, kMostChannels);
  shape.out_channels = in.integer("channels of the result", 1, kMostChannels);
  shape.groups = in.integer("groups", 1, std::min(shape.in_channels, shape.out_channels));
  if (shape.in_channels % shape.groups != 0 || shape.out_channels % shape.groups != 0) {
    in.fail("its channels are no multiple of its groups");
  }
  shape.kernel_h = s.pixels("height of the kernel", 1);
  shape.kernel_w = s.pixels("width of the kernel", 1);
  shape.stride_h = s.pixels("step down", 1);
  shape.stride_w = s.pixels("step to the right", 1);
  shape.dilation_h = s.pixels("dilation down", 1);
  shape.dilation_w = s.pixels("dilation to the right", 1);
  shape.pads = s.pads(kMostPadding, kMostPadding);
  if (weight.rows != shape.out_channels || weight.cols != shape.cols()) {
    in.fail("its weight is [" + std::to_string(weight.rows) + ", " + std::to_string(weight.cols) + "]; expected [" +
            std::to_string(shape.out_channels) + ", " + std::to_string(shape.cols()) + "]");
  }
  const float scale = in.real("input scale");
  if (!(scale > 0)) in.fail("its input scale is not positive");
  const auto zero = static_cast<std::int32_t>(in.integer("input zero", 0, 255));
  const auto levels = static_cast<std::int32_t>(in.integer("input levels", zero + 1, 256));
  const int residual = s.value("residual", -1);
  const Bounds bounds = s.bounds();
  const std::vector<float> bias = in.floats("bias", weight.rows);
  if (shape.cols() > kMaxConvInputs) in.fail("more inputs of one output than sums of 32 bits hold");
  const Unpacked unpacked(weight);
  s.program.convolution(
      x, shape, {unpacked.codes.data(), unpacked.scales.data(), weight.group_size, bias.data(), scale, zero}, levels,
      residual, bounds);
}

void add(Source& s) {
  const int a = s.value("value"), b = s.value("value");
  s.program.add(a, b, s.bounds());
}

void bound(Source& s) {
  const int x = s.value("value");
  s.program.bound(x, s.bounds());
}

void pool(Source& s) {
  const int x = s.value("value");
  PoolShape shape{};
  shape.kind = s.reader.flag("mean") ? PoolKind::kMean : PoolKind::kMax;
  shape.whole_image = s.reader.flag("of the whole image");
  shape.kernel_h = s.pixels("height of the kernel", 1);
  shape.kernel_w = s.pixels("width of the kernel", 1);
  shape.stride_h = s.pixels("step down", 1);
  shape.stride_w = s.pixels("step to the right", 1);
  shape.pads = s.pads(std::min(shape.kernel_h - 1, kMostPadding), std::min(shape.kernel_w - 1, kMostPadding));
  shape.count_padding = s.reader.flag("counts padding");
  s.program.pool(x, shape, s.bounds());
}

void concatenate(Source& s) {
  std::vector<int> values(static_cast<std::size_t>(s.reader.count("number of values")));
  for (int& x : values) x = s.value("value");
  s.program.concatenate(values);
}

void flatten(Source& s) { s.program.flatten(s.value("value")); }

struct Entry {
  const char* name;
  void (*read)(Source&);
};

// By their numbers, from 1 on.
constexpr Entry kOperations[] = {
    {"convolution", convolution}, {"sum", add},
    {"activation", bound},        {"pooling", pool},
    {"concatenation", concatenate}, {"flattening", flatten},
};

}  // namespace

SerializedProgram read_program(const std::uint8_t* data, std::size_t bytes, Isa isa) {
  Reader reader(data, bytes, serialized::Kind::kProgram);
  const std::vector<Weight> weights = reader.weights();
  reader.enter("program");
  const std::int64_t in_channels = reader.integer("channels of the input", 1, kMostChannels);
  const std::int64_t operations = reader.count("number of operations");
  auto program = std::make_unique<Program>(in_channels, isa);
  for (std::int64_t i = 0; i < operations; ++i) {
    const std::string place = "operation " + std::to_string(i);
    reader.enter(place);
    const Entry& entry = kOperations[reader.integer("operation", 1, std::size(kOperations)) - 1];
    reader.enter(place + " (" + entry.name + ")");
    Source source{reader, weights, *program, i + 1};
    try {
      entry.read(source);
    } catch (const std::invalid_argument& error) {
      const std::string message = error.what();
      if (message.find(place) != std::string::npos) throw;
      reader.fail(message);  // what the program says of it
    }
  }
  reader.enter("program");
  const auto result = static_cast<int>(reader.integer("result", 0, operations));
  reader.end();
  program->finish(result);
  return {std::move(program), in_channels};
}

}  // namespace eqnet
