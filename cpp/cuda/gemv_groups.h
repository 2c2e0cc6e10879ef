// Scales and zero points on their way from memory to the lanes of one warp, which walks along a row of tiles.
//
// A tile has the beginnings of no, one or up to four groups. What these need lies side by side, so that a warp loads it
// at once, each lane another piece, when it loads the tile; and puts it into a ring in shared memory when it comes to
// the tile. There each lane finds what it wants when it comes to a group.
#pragma once

#include "fragments.h"
#include "tiles.h"

namespace eqnet::cuda {

constexpr int kRingGroups = 8;  // four that begin in a tile, and the one before them
constexpr int kRingScales = kRingGroups * static_cast<int>(kTile);

__host__ __device__ constexpr int ring_bytes(int scale_type) {
  return kRingScales * (scale_type == EQNET_FLOAT32 ? 4 : 2) + kRingScales;
}

// Of the groups that begin in one tile.
struct GroupPieces {
  int count;
  uint4 scales[2];  // the second one of float32 alone
  uint2 zeros;
};

template <int kBits>
class GroupRing {
 public:
  // memory: ring_bytes() in shared memory, of this warp. first_step: of the first tile, counted from that of column 0.
  __device__ __forceinline__ GroupRing(const Tiles& weight, int row_tile, int first_step, void* memory, int lane)
      : weight_(weight), lane_(lane), ring_(static_cast<unsigned char*>(memory)) {
    const int group = first_step / weight.group_steps;
    ahead_ = group * weight.group_steps - first_step;
    loaded_ = (static_cast<long long>(row_tile) * weight.groups + group) * kTile;
    stored_ = opened_ = group * static_cast<int>(kTile);
    left_ = 0;
    next_left_ = ahead_ + weight.group_steps;
  }

  // For the tile after the last one that this was called for.
  __device__ __forceinline__ void load_pieces(GroupPieces& pieces) {
    int count = 0;
    for (; ahead_ < kTileSteps; ahead_ += weight_.group_steps) ++count;
    ahead_ -= static_cast<int>(kTileSteps);
    pieces.count = count;
    const int numbers = count * static_cast<int>(kTile);
    if (weight_.scale_type == EQNET_FLOAT32) {
      const float* from = static_cast<const float*>(weight_.scales) + loaded_ + 4 * lane_;
      if (4 * lane_ < numbers) pieces.scales[0] = load_once(reinterpret_cast<const uint4*>(from));
      if (4 * lane_ + 128 < numbers) pieces.scales[1] = load_once(reinterpret_cast<const uint4*>(from + 128));
    } else if (8 * lane_ < numbers) {
      const unsigned short* from = static_cast<const unsigned short*>(weight_.scales) + loaded_ + 8 * lane_;
      pieces.scales[0] = load_once(reinterpret_cast<const uint4*>(from));
    }
    if (weight_.zeros != nullptr && 8 * lane_ < numbers) {
      pieces.zeros = load_once(reinterpret_cast<const uint2*>(weight_.zeros + loaded_ + 8 * lane_));
    }
    loaded_ += numbers;
  }

  // In the order in which they were loaded. For a whole warp.
  __device__ __forceinline__ void keep(const GroupPieces& pieces) {
    if (pieces.count == 0) return;
    __syncwarp();  // until all lanes have read what makes room
    const int numbers = pieces.count * static_cast<int>(kTile);
    if (weight_.scale_type == EQNET_FLOAT32) {
      const int at = stored_ + 4 * lane_;
      auto* to = reinterpret_cast<float*>(ring_);
      if (4 * lane_ < numbers) store(reinterpret_cast<uint4*>(to + at % kRingScales), pieces.scales[0]);
      if (4 * lane_ + 128 < numbers) store(reinterpret_cast<uint4*>(to + (at + 128) % kRingScales), pieces.scales[1]);
    } else if (8 * lane_ < numbers) {
      auto* to = reinterpret_cast<unsigned short*>(ring_);
      store(reinterpret_cast<uint4*>(to + (stored_ + 8 * lane_) % kRingScales), pieces.scales[0]);
    }
    if (weight_.zeros != nullptr && 8 * lane_ < numbers) {
      store(reinterpret_cast<uint2*>(ring_zeros() + (stored_ + 8 * lane_) % kRingScales), pieces.zeros);
    }
    stored_ += numbers;
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
    return scales_at(ring_, weight_.scale_type, opened_ % kRingScales + lane_ / 4 * 8);
  }
  __device__ __forceinline__ uint2 zeros() const {
    constexpr unsigned kMiddle = (1u << (kBits - 1)) * 0x01010101u;
    if (weight_.zeros == nullptr) return make_uint2(kMiddle, kMiddle);
    return load(reinterpret_cast<const uint2*>(ring_zeros() + opened_ % kRingScales + lane_ / 4 * 8));
  }

 private:
  __device__ __forceinline__ unsigned char* ring_zeros() const {
    return ring_ + kRingScales * (weight_.scale_type == EQNET_FLOAT32 ? 4 : 2);
  }

  const Tiles& weight_;
  int lane_;
  unsigned char* ring_;
  int ahead_;         // steps from the tile that is loaded next to the group that is
  long long loaded_;  // where the scales of that group are
  int stored_;        // scales, of the row of tiles
  int opened_;        // where the open group's are in it
  int left_;          // steps of the open group, this one included
  int next_left_;     // of the one after it
};

}  // namespace eqnet::cuda
