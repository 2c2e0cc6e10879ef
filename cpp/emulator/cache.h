#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace eqnet::emulator {

constexpr std::size_t kSectorBytes = 32;

// The cache between the multiprocessors and memory, in which a launch finds nothing at first. It holds sectors; the one
// that nobody asked for the longest makes room for the next one, and goes to memory if it was written.
class SectorCache {
 public:
  void begin_launch(std::size_t bytes);
  // One access to the sector with this number. slot: a number that is kept for each sector, 0 at first.
  void access(std::uint32_t& slot, std::uintptr_t sector, bool write);
  // Writes back what is left.
  void end_launch();

  // Of this launch.
  std::int64_t read_bytes() const { return reads_ * static_cast<std::int64_t>(kSectorBytes); }
  std::int64_t written_bytes() const { return writes_ * static_cast<std::int64_t>(kSectorBytes); }

 private:
  struct Entry {
    std::uintptr_t sector;
    std::uint32_t newer, older;
    bool dirty;
  };
  // Entry 0 is between the newest and the oldest one. That a slot is right is seen at the entry itself, so that slots
  // need not be cleared.
  std::vector<Entry> entries_;
  std::size_t most_ = 0;  // entries, with entry 0
  std::int64_t reads_ = 0;
  std::int64_t writes_ = 0;

  void unlink(std::uint32_t at);
  void link_newest(std::uint32_t at);
  std::uint32_t make_room();
};

}  // namespace eqnet::emulator
