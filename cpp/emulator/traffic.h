#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cache.h"
#include "clocks.h"
#include "report.h"

namespace eqnet::emulator {

enum class Access { kRead, kWrite, kAtomic };

// Accesses of one warp since its lanes last were together, by instruction. Lanes run one after another; what they do at
// the same place in the source for the n-th time since then, or since the same mark, is what a warp does at once.
class WarpAccesses {
 public:
  // Adds what one lane does. Addresses in shared memory are given from its beginning.
  void add(int lane, const Site& site, Access access, bool shared, std::uintptr_t address, int bytes);
  // A place that lanes come to together, whatever they did before it.
  void mark(int lane) { ++marks_[static_cast<std::size_t>(lane)]; }
  // Counts all that was added into `report`, asks `cache` for it, and begins anew.
  void flush(Report& report, SectorCache& cache);

 private:
  struct Group {
    unsigned lanes = 0;
    std::array<std::uintptr_t, kLanes> addresses;
  };
  struct Instruction {
    Site site;
    Access access;
    bool shared;
    int bytes;
    std::uint32_t mark;  // how many there were before it
    std::size_t report_index;  // of its site
    std::array<std::uint32_t, kLanes> times{};
    std::vector<Group> groups{};
    std::size_t used = 0;  // groups
  };
  std::vector<Instruction> instructions_;
  std::size_t last_ = 0;  // the instruction that was added to

  std::array<std::uint32_t, kLanes> marks_{};

  Instruction& instruction(const Site& site, Access access, bool shared, int bytes, std::uint32_t mark);
  static void count(const Instruction& instruction, const Group& group, Traffic& traffic, SectorCache& cache);
};

// Of the sorted addresses of one warp's accesses to global memory, each of so many bytes.
struct Sectors {
  std::int64_t asked_for;
  std::int64_t least;
};
Sectors count_sectors(const std::uintptr_t* addresses, int count, int bytes);

// Passes over the 32 banks of 4 bytes beyond those that as many bytes need, for lanes in their order.
std::int64_t count_conflicts(const std::uintptr_t* addresses, unsigned lanes, int bytes);

}  // namespace eqnet::emulator
