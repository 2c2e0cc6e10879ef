#pragma once

#include "lanes.h"

namespace eqnet::lanes {

// One group of each lane.
struct Group {
  const Lanes* x;  // [size]
  const float* h;  // [size], not negative
  std::int64_t size;
};

// The ranges of weight_codes.h; `largest` is brought up to date.
void find_range(const Group& group, const WeightFormat& format, bool searched, Range& found, Largest& largest);

}  // namespace eqnet::lanes
