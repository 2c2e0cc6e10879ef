// The inner kernels of integer convolutions, one record of them for each instruction set.
//
// Activations are unsigned 8-bit codes in NHWC order. Weights are signed bytes in panels of 16 output channels:
//
//     panel 0 | panel 1 | ...             16 output channels each; missing ones are 0
//     quad 0 | quad 1 | ...               4 inputs of each channel
//     channel 0: 4 bytes | channel 1: 4 bytes | ... | channel 15: 4 bytes
//
// which is the order in which dot products of 4 bytes take their operands. A kernel computes a tile, some pixels by some
// panels, and writes it in the forms that later layers read: codes for each of them, and floating point.
#pragma once

#include <cstdint>

#include "eqnet/conv.h"

namespace eqnet::conv {

constexpr int kLanes = 16;     // output channels of a panel
constexpr int kQuad = 4;       // inputs of a step
constexpr int kMaxPixels = 8;  // of a tile
constexpr int kMaxPanels = 4;  // of a tile

// Where the results of a tile go; all pointers are at the first channel of the tile.
struct Output {
  const Finish* finish;
  int tail;  // channels in the last panel, 1 to 16
  std::uint8_t* code[kMaxTargets][kMaxPixels];
  float* value[kMaxPixels];
  const float* residual[kMaxPixels];
};

// Inputs of a pixel that are contiguous in memory.
struct Segment {
  std::int64_t offset;  // bytes from the pixel's pointer
  std::int64_t quads;   // of 4 inputs; what is read beyond the last input has weight 0
  std::int64_t bytes;   // inputs that count
};

// Constants of each output channel, [panels, 16], or [segments, panels, 16] if each segment has a scale of its own.
// The result is  (start + sum + offset * inputs) * multiplier + bias,  where `sum` is that of weights times inputs and
// `inputs` that of inputs alone.
struct Channels {
  const std::int32_t* start;
  const std::int32_t* offset;  // what does not fit into a signed byte; null if all does
  const float* multiplier;
  const float* bias;           // [panels, 16] always
};

struct DenseTile {
  const std::uint8_t* input[kMaxPixels];
  const Segment* segments;
  std::int64_t segment_count;
  const std::int8_t* weights;  // of the tile's first panel
  std::int64_t panel_bytes;
  Channels channels;           // at the tile's first panel
  std::int64_t segment_lanes;  // from the constants of one segment to those of the next; 0 if they share them
  Output output;
};

// Depthwise convolutions take four taps at a time, and interleave their bytes within each 16 bytes (a lane) of vectors
// of `lanes` lanes. That gives four vectors, which hold the four taps of these channels:
//
//     vector q, lane l, dword j:    channel 16 l + 4 q + j
//
// Weights and constants are stored in this order: weights [taps / 4, 4 q, lanes, 4 j, 4 taps], constants [4 q, lanes,
// 4 j]. Weights that do not fit into a signed byte (`wide`) are w + 2 rest, and all of the rest follows all of the w.
// If there are few channels, the vectors hold those of `fold` pixels, one after the other, and weights and constants
// are repeated.
struct DepthwiseTile {
  const std::uint8_t* input[kMaxPixels];
  const std::int64_t* taps;  // bytes from the pixel's pointer to each tap, [4 * tap_quads]
  std::int64_t tap_quads;
  const std::int8_t* weights;
  bool wide;
  int fold;                  // 1, 2 or 4; divides the lanes
  int pixels;                // a multiple of 2 * fold: the last pixel may be there several times
  Channels channels;         // offset is null
  Output output;             // tail: channels, 1 to 16 * lanes / fold
};

// The same kernels for each instruction set.
struct Kernels {
  int panels;                  // of the largest tile
  int pixels[kMaxPanels + 1];  // of the largest tile of as many panels
  int grouped_pixels;          // of the largest tile where each segment has a scale; such a tile has one panel
  int depthwise_lanes;
  bool signed_inputs;          // whether the dense kernels read inputs less 128, for which `start` has to make up
  void (*dense)(const DenseTile& tile, int pixels, int panels);
  void (*dense_grouped)(const DenseTile& tile, int pixels, int panels);
  void (*depthwise)(const DepthwiseTile& tile);
  void (*finish)(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                 float* value);
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

// The best that are not above `isa`.
const Kernels& kernels(Isa isa);

}  // namespace eqnet::conv
