// The two kinds of convolution.
#pragma once

#include <memory>
#include <vector>

#include "aligned.h"
#include "kernels.h"

namespace eqnet::conv {

// Where the pixels of a result and what they read are, one after the other.
class Cursor {
 public:
  Cursor(const ConvShape& shape, const ConvCall& call, const Finish& finish, std::int64_t first);

  // Writes pointers of the current pixel at index `i` and moves to the next.
  void take(int i, std::int64_t in_channel, std::int64_t out_channel, const std::uint8_t** input, Output& output);

 private:
  const ConvShape& shape_;
  const ConvCall& call_;
  const Finish& finish_;
  std::int64_t out_height_, out_width_, image_, y_, x_;
};

// Several inputs of several groups for each output: sums by dot products, 16 channels at a time.
class Dense final : public Convolution {
 public:
  Dense(const ConvShape& shape, const ConvWeights& weights, const Kernels& kernels);
  void set_finish(const Finish& finish) override;
  std::int64_t parts(const ConvCall& call, std::int64_t wanted) const override;
  void run(const ConvCall& call, std::int64_t part, std::int64_t parts) const override;

 private:
  struct Split {
    std::int64_t pixels, panels;  // into how many parts
  };
  Split split(const ConvCall& call, std::int64_t parts) const;
  void plan_segments();
  void fill(const ConvWeights& weights);
  std::vector<Segment> segments(const CodeLayout& layout) const;
  std::int64_t offset(std::int64_t column, const CodeLayout& layout) const;
  void run_panels(const ConvCall& call, std::int64_t group, std::int64_t first_panel, int panels, std::int64_t first,
                  std::int64_t last, const std::vector<Segment>& segments) const;

  ConvShape shape_;
  const Kernels& kernels_;
  Finish finish_{};
  std::int64_t group_size_;             // columns that share a scale
  bool by_segment_;                     // each segment has a scale
  bool gathers_;                        // inputs are copied into the order of the columns first
  std::int64_t panels_;                 // of one group
  std::vector<std::vector<std::int32_t>> columns_;  // of each segment, in the order of the weights
  std::int64_t panel_bytes_;
  Aligned<std::int8_t> weights_;        // [groups, panels, inputs / 4, 16, 4]
  Aligned<std::int32_t> start_, offset_;  // [groups, segments with a scale, panels, 16]
  Aligned<float> base_multiplier_, multiplier_;
  Aligned<float> base_bias_, bias_;     // [groups, panels, 16]
};

// One input channel for each output channel.
class Depthwise final : public Convolution {
 public:
  Depthwise(const ConvShape& shape, const ConvWeights& weights, const Kernels& kernels);
  void set_finish(const Finish& finish) override;
  std::int64_t parts(const ConvCall& call, std::int64_t wanted) const override;
  void run(const ConvCall& call, std::int64_t part, std::int64_t parts) const override;

 private:
  struct Block {
    std::int64_t first;  // channel
    int channels;
    int fold;
  };

  ConvShape shape_;
  const Kernels& kernels_;
  Finish finish_{};
  std::vector<Block> blocks_;
  std::int64_t tap_quads_, block_lanes_, block_bytes_;
  bool wide_ = false;
  Aligned<std::int8_t> weights_;  // [blocks, 1 or 2, block_bytes]
  Aligned<std::int32_t> start_;   // [blocks, block_lanes]
  Aligned<float> base_multiplier_, multiplier_, base_bias_, bias_;
};

}  // namespace eqnet::conv
