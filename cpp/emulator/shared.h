#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "clocks.h"

namespace eqnet::emulator {

// Shared memory of the block that runs, and beside each of its bytes who accessed it last and when.
class SharedMemory {
 public:
  struct Array {
    const void* key;  // of its declaration
    std::string name;
    std::size_t offset;
    std::size_t bytes;
  };

  void begin_launch(std::size_t dynamic_bytes);
  void begin_block();  // everything is poison again

  // Where the array of a declaration is, in bytes from the beginning: the same for all threads and blocks.
  std::size_t declare(const void* key, const char* name, std::size_t bytes);
  std::size_t dynamic() const { return arrays_[0].offset; }
  const Array* array_at(std::size_t offset) const;    // that holds the byte, or null
  const Array* array_near(std::size_t offset) const;  // the one before it, or null
  std::size_t bytes() const;                          // of all arrays
  unsigned char* data(std::size_t offset) { return bytes_.data() + offset; }

  // What is wrong with an access by a thread, or kNothing. The access counts as made.
  struct Verdict {
    enum { kNothing, kUnwritten, kRace, kPending } what;
    std::size_t offset;  // of the first byte with which it is
    int other;           // thread, for races; kSeveral for more than one
  };
  static constexpr int kSeveral = -1;
  Verdict read(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes);
  Verdict write(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes);
  Verdict update(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes);  // atomically

  // A copy that the thread has begun: a write, and nobody may read until it has landed.
  Verdict begin_copy(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes);
  void end_copy(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes);

 private:
  static constexpr std::uint16_t kMany = 0xffff;  // threads, or warps

  struct Shadow {
    std::uint32_t written = 0;  // when; before the block began if never
    std::uint32_t read = 0;     // when last, since it was written
    std::uint32_t readers = 0;  // lanes of the one warp that has read it since
    std::uint16_t writer = 0;   // thread; kMany if several threads did so atomically
    std::uint16_t reading_warp = 0;
    bool atomically = false;  // written
    bool pending = false;     // a copy to it has begun
  };
  std::vector<Array> arrays_;  // dynamic memory, then those that are declared
  std::vector<unsigned char> bytes_;
  std::vector<Shadow> shadows_;

  static bool write_races(const Clocks& clocks, int thread, const Shadow& shadow, int* other);
  static bool reads_race(const Clocks& clocks, int thread, const Shadow& shadow, int* other);
  static void note_read(const Clocks& clocks, int thread, Shadow& shadow);
  Verdict change(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes, bool atomically,
                 bool pending);
};

}  // namespace eqnet::emulator
