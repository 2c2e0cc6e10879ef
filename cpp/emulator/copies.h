#pragma once

#include <cstddef>
#include <vector>

#include "report.h"

namespace eqnet::emulator {

// One copy from global to shared memory that a thread has begun (cp.async). It is made when the thread waits for it,
// as late as the hardware may.
struct Copy {
  std::size_t to;             // in shared memory
  const unsigned char* from;  // on the host, or null: zeros
  std::size_t bytes;
  std::size_t valid;  // bytes that are read; the rest become zero
  Site site;
};

// Those of one thread, in the groups in which it waits for them.
class Copies {
 public:
  void add(const Copy& copy) { all_.push_back(copy); }
  void commit() { ends_.push_back(all_.size()); }

  // Gives `land` those of all groups but the last `left`, in their order, and forgets them.
  template <typename Land>
  void take(std::size_t left, Land land) {
    if (ends_.size() <= left) return;
    const std::size_t groups = ends_.size() - left;
    const std::size_t count = ends_[groups - 1];
    for (std::size_t i = 0; i < count; ++i) land(all_[i]);
    all_.erase(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(count));
    ends_.erase(ends_.begin(), ends_.begin() + static_cast<std::ptrdiff_t>(groups));
    for (std::size_t& end : ends_) end -= count;
  }

  bool pending() const { return !all_.empty(); }
  Site first_site() const { return all_.front().site; }  // of the oldest that is pending
  void clear() {
    all_.clear();
    ends_.clear();
  }

 private:
  std::vector<Copy> all_;
  std::vector<std::size_t> ends_;  // of groups; what follows the last one is in none yet
};

}  // namespace eqnet::emulator
