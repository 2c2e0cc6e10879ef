// Scales and zero points on their way from memory to the lanes of one warp, which walks along a row of tiles.
//
// A tile has the beginnings of no, one or up to four groups. What these need lies side by side, so that a warp copies
// it at once, each lane another piece, when it loads the tile: to a ring in shared memory, where each lane finds what
// it wants when it comes to a group.
#pragma once

#include "fragments.h"
#include "tiles.h"

namespace eqnet::cuda {

constexpr int kTilesAhead = 2;  // that a warp loads before it comes to them

// Groups of a ring: those that begin in a tile and in those that are loaded ahead, and the one that is open before it.
__host__ __device__ constexpr int ring_groups(int group_steps) {
  return group_steps == 1 ? 16 : (group_steps < kTileSteps ? 8 : 4);
}

__host__ __device__ constexpr int ring_bytes(int scale_type, int group_steps) {
  return ring_groups(group_steps) * static_cast<int>(kTile) * ((scale_type == EQNET_FLOAT32 ? 4 : 2) + 1);
}

template <int kBits>
class GroupRing {
 public:
  // memory: ring_bytes() in shared memory, of this warp. first_step: of the first tile, counted from that of column 0.
  __device__ __forceinline__ GroupRing(const Tiles& weight, int row_tile, int first_step, void* memory, int lane)
      : weight_(weight), lane_(lane), ring_(static_cast<unsigned char*>(memory)) {
    const int group = first_step / weight.group_steps;
    mask_ = ring_groups(weight.group_steps) * static_cast<int>(kTile) - 1;
    ahead_ = group * weight.group_steps - first_step;
    row_ = static_cast<long long>(row_tile) * weight.groups * kTile;
    loaded_ = opened_ = group * static_cast<int>(kTile);
    left_ = 0;
    next_left_ = ahead_ + weight.group_steps;
  }

  // Begins to copy what the tile needs that comes after the last one that this was called for. For a whole warp; what
  // was read of a tile as many as kTilesAhead + 1 before it makes room.
  __device__ __forceinline__ void load_tile() {
    int numbers = 0;
    for (; ahead_ < kTileSteps; ahead_ += weight_.group_steps) numbers += static_cast<int>(kTile);
    ahead_ -= static_cast<int>(kTileSteps);
    if (numbers > 0) {
      if (weight_.scale_type == EQNET_FLOAT32) {
        copy<4>(ring_, weight_.scales, 4 * lane_, numbers);
        copy<4>(ring_, weight_.scales, 4 * lane_ + 128, numbers);
      } else {
        copy<2>(ring_, weight_.scales, 8 * lane_, numbers);
      }
      if (weight_.zeros != nullptr) copy<1>(ring_zeros(), weight_.zeros, 16 * lane_, numbers);
      loaded_ += numbers;
    }
    cp_async_commit();
  }
  // Waits for the copies of the next tile, of those that load_tile() was called for.
  __device__ __forceinline__ void wait_for_tile() {
    cp_async_wait<kTilesAhead - 1>();
    __syncwarp();
  }

  // Comes to the next step. Whether it is the first one of a group, or the first one at all.
  __device__ __forceinline__ bool begin_step() {
    if (left_ > 0) return false;
    left_ = next_left_;
    next_left_ = weight_.group_steps;
    return true;
  }
  // Leaves it. Whether it was the last one of its group, whose scales and zeros are these until leave_group().
  __device__ __forceinline__ bool end_step() { return --left_ == 0; }
  __device__ __forceinline__ bool is_open() const { return left_ > 0; }
  __device__ __forceinline__ void leave_group() { opened_ += static_cast<int>(kTile); }

  __device__ __forceinline__ Scales scales() const {
    return scales_at(ring_, weight_.scale_type, (opened_ & mask_) + lane_ / 4 * 8);
  }
  __device__ __forceinline__ uint2 zeros() const {
    constexpr unsigned kMiddle = (1u << (kBits - 1)) * 0x01010101u;
    if (weight_.zeros == nullptr) return make_uint2(kMiddle, kMiddle);
    return load(reinterpret_cast<const uint2*>(ring_zeros() + (opened_ & mask_) + lane_ / 4 * 8));
  }

 private:
  __device__ __forceinline__ unsigned char* ring_zeros() const {
    return ring_ + (mask_ + 1) * (weight_.scale_type == EQNET_FLOAT32 ? 4 : 2);
  }
  // Copies 16 bytes, if they are among so many numbers after those that are loaded.
  template <int kNumberBytes>
  __device__ __forceinline__ void copy(unsigned char* to, const void* from, int number, int numbers) {
    if (number >= numbers) return;
    cp_async<16>(to + ((loaded_ + number) & mask_) * kNumberBytes,
                 static_cast<const unsigned char*>(from) + (row_ + loaded_ + number) * kNumberBytes);
  }

  const Tiles& weight_;
  int lane_;
  unsigned char* ring_;
  int mask_;       // of places in the ring
  int ahead_;      // steps from the tile that is loaded next to the group that is
  long long row_;  // where the scales of the row of tiles begin
  int loaded_;     // scales of it
  int opened_;     // where the open group's are
  int left_;       // steps of the open group, this one included
  int next_left_;  // of the one after it
};

}  // namespace eqnet::cuda
