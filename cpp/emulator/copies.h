#pragma once

#include <cstddef>
#include <deque>
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
  void add(const Copy& copy) { open_.push_back(copy); }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  // Takes away all groups but the last `left`, in their order.
  std::vector<Copy> take(std::size_t left);

  bool pending() const;
  Site first_site() const;  // of the oldest that is pending
  void clear() {
    open_.clear();
    groups_.clear();
  }

 private:
  std::vector<Copy> open_;  // in no group yet
  std::deque<std::vector<Copy>> groups_;
};

}  // namespace eqnet::emulator
