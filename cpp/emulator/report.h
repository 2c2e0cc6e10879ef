// What a launch tells of a kernel: mistakes, one by one, and work, counted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vectors.h"

namespace eqnet::emulator {

// Where in the source something was called. As a default argument it is the place of the call.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

bool operator==(const Site& a, const Site& b);
inline bool operator!=(const Site& a, const Site& b) { return !(a == b); }

enum class Kind {
  kOutOfBounds,   // an address that belongs to no buffer and to no shared array
  kMisaligned,    // an address that is no multiple of the size of what is accessed
  kReadOnly,      // a write to a buffer of inputs
  kUnwritten,     // a read of memory that nobody has written
  kRace,          // accesses, one of them a write, that nothing orders: of threads, or in global memory of blocks
  kUnfinished,    // a read of what is still being copied, or a copy that nobody waits for
  kDivergence,    // threads that wait for one another in different places, or for threads that have returned
  kArgument,      // a value that the instruction does not take
};

const char* name(Kind kind);

// One mistake. The same kind at the same place is told once for a launch, with how often it was made.
struct Finding {
  Kind kind;
  std::string kernel;
  uint3 block;
  uint3 thread;
  Site site;
  std::string text;
  std::int64_t times = 1;
};

// Accesses of warps, over a launch or at one place in the source. One access is one instruction of all lanes that are
// at it together.
struct Traffic {
  std::int64_t read_sectors = 0;  // of 32 bytes, in global memory
  std::int64_t least_read_sectors = 0;  // that would hold the bytes that lanes read, were these side by side
  std::int64_t write_sectors = 0;
  std::int64_t least_write_sectors = 0;
  std::int64_t global_accesses = 0;
  std::int64_t shared_accesses = 0;
  std::int64_t bank_conflicts = 0;  // passes over the banks of shared memory beyond those that the bytes need

  std::int64_t uncoalesced() const {
    return read_sectors - least_read_sectors + write_sectors - least_write_sectors;
  }
  void add(const Traffic& other);
};

struct SiteTraffic {
  Site site;
  Traffic traffic;
};

struct Report {
  std::vector<Finding> findings;
  Traffic traffic;                 // of the whole launch
  std::vector<SiteTraffic> sites;  // of each place in the source
  std::int64_t matrix_flops = 0;   // of mma: two for each product
  std::int64_t barriers = 0;       // of blocks
  std::int64_t shared_bytes = 0;   // of one block
  // In whole sectors, beyond the cache of the launch, in which nothing is at first and nothing dirty in the end.
  std::int64_t memory_read_bytes = 0;
  std::int64_t memory_written_bytes = 0;

  std::int64_t count(Kind kind) const;  // of findings, without their repetitions
  std::string text() const;             // of all findings, a line each
};

}  // namespace eqnet::emulator
