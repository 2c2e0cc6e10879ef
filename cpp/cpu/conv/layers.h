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
  // Starts at pixel `first` of all images; pointers are to the given channels.
  Cursor(const ConvShape& shape, const ConvCall& call, const Finish& finish, std::int64_t first,
         std::int64_t in_channel, std::int64_t out_channel);

  // Writes the pointers of the next pixels.
  void take(int pixels, const std::uint8_t** input, Output& output) {
    for (int i = 0; i < pixels; ++i) {
      input[i] = input_;
      for (int t = 0; t < targets_; ++t) output.code[t][i] = code_[t];
      output.value[i] = value_;
      output.residual[i] = residual_;
      if (has_floats_) {
        value_ += out_step_;
        residual_ += out_step_;
      }
      if (++x_ == width_) {
        next_row();
      } else {
        input_ += in_step_;
        for (int t = 0; t < targets_; ++t) code_[t] += out_step_;
      }
    }
  }

 private:
  void next_row();
  void seek();  // to the start of the row

  const ConvShape& shape_;
  const ConvCall& call_;
  std::int64_t in_channel_, out_channel_, in_step_, out_step_, height_, width_, image_, y_, x_;
  int targets_;
  bool has_floats_;
  const std::uint8_t* input_;
  std::uint8_t* code_[kMaxTargets];
  float* value_;
  const float* residual_;
};

// What sums of products become: multiplied and moved by channel, then finished. Where the first code alone is wanted, its
// scale is part of both.
class Finished : public Convolution {
 public:
  void set_finish(const Finish& finish) final;

 protected:
  Finish finish_{};
  Aligned<float> base_multiplier_, multiplier_;  // in the order of the kernel, as is the bias
  Aligned<float> base_bias_, bias_;
};

// Several inputs of several groups for each output: sums by dot products, 16 channels at a time.
class Dense final : public Finished {
 public:
  Dense(const ConvShape& shape, const ConvWeights& weights, const Kernels& kernels);
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
  std::int64_t group_size_;             // columns that share a scale
  bool by_segment_;                     // each segment has a scale
  bool gathers_;                        // inputs are copied into the order of the columns first
  std::int64_t panels_;                 // of one group
  std::vector<std::vector<std::int32_t>> columns_;  // of each segment, in the order of the weights
  std::int64_t panel_bytes_;
  Aligned<std::int8_t> weights_;        // [groups, panels, inputs / 4, 16, 4]
  Aligned<std::int32_t> start_, offset_;  // [groups, segments with a scale, panels, 16]
};

// One input channel for each output channel.
class Depthwise final : public Finished {
 public:
  Depthwise(const ConvShape& shape, const ConvWeights& weights, const Kernels& kernels);
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
  std::vector<Block> blocks_;
  std::int64_t tap_quads_, block_lanes_, block_bytes_;
  bool wide_ = false;
  Aligned<std::int8_t> weights_;  // [blocks, 1 or 2, block_bytes]
  Aligned<std::int32_t> start_;   // [blocks, block_lanes]
};

}  // namespace eqnet::conv
