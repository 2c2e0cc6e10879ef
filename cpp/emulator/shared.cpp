#include "shared.h"

#include <algorithm>

#include "addresses.h"
#include "memory.h"

namespace eqnet::emulator {
namespace {

constexpr std::size_t kDeclared = kSharedSpace / 2;  // where arrays other than dynamic memory begin
constexpr std::size_t kAlignment = 128;              // all banks: conflicts do not depend on what else is declared
constexpr std::size_t kApart = 128;                  // bytes between two arrays, at least

}  // namespace

void SharedMemory::begin_launch(std::size_t dynamic_bytes) {
  bytes_.resize(kSharedSpace);
  shadows_.resize(kSharedSpace);
  for (const Array& array : arrays_) {  // of the last launch
    std::fill_n(shadows_.begin() + static_cast<std::ptrdiff_t>(array.offset), array.bytes, Shadow{});
  }
  arrays_.assign(1, {nullptr, "dynamic shared memory", 0, dynamic_bytes});
}

void SharedMemory::begin_block() {
  for (const Array& array : arrays_) std::fill_n(data(array.offset), array.bytes, kPoison);
}

std::size_t SharedMemory::declare(const void* key, const char* name, std::size_t bytes) {
  for (const Array& array : arrays_) {
    if (array.key == key) return array.offset;
  }
  std::size_t offset = kDeclared;
  if (arrays_.size() > 1) {
    const std::size_t end = arrays_.back().offset + arrays_.back().bytes + kApart;
    offset = (end + kAlignment - 1) / kAlignment * kAlignment;
  }
  arrays_.push_back({key, name, offset, bytes});
  std::fill_n(data(offset), bytes, kPoison);
  return offset;
}

const SharedMemory::Array* SharedMemory::array_at(std::size_t offset) const {
  for (const Array& array : arrays_) {
    if (offset - array.offset < array.bytes) return &array;
  }
  return nullptr;
}

const SharedMemory::Array* SharedMemory::array_near(std::size_t offset) const {
  const Array* near = nullptr;
  for (const Array& array : arrays_) {
    if (array.bytes > 0 && array.offset <= offset) near = &array;
  }
  return near;
}

std::size_t SharedMemory::bytes() const {
  std::size_t sum = 0;
  for (const Array& array : arrays_) sum += array.bytes;
  return sum;
}

bool SharedMemory::write_races(const Clocks& clocks, int thread, const Shadow& shadow, int* other) {
  if (shadow.written < clocks.last_barrier()) return false;
  *other = shadow.writer == kMany ? kSeveral : shadow.writer;
  return shadow.writer == kMany || !clocks.is_before(shadow.writer, shadow.written, thread);
}

bool SharedMemory::reads_race(const Clocks& clocks, int thread, const Shadow& shadow, int* other) {
  if (shadow.read < clocks.last_barrier()) return false;
  const int lane = thread % kLanes;
  if (shadow.reading_warp == kMany) {
    *other = kSeveral;
    return true;
  }
  if (shadow.reading_warp == thread / kLanes && (shadow.readers & ~(1u << lane)) == 0) return false;
  for (int reader = 0; reader < kLanes; ++reader) {
    *other = shadow.reading_warp * kLanes + reader;
    if ((shadow.readers >> reader & 1) && !clocks.is_before(*other, shadow.read, thread)) return true;
  }
  return false;
}

void SharedMemory::note_read(const Clocks& clocks, int thread, Shadow& shadow) {
  const int lane = thread % kLanes;
  const auto warp = static_cast<std::uint16_t>(thread / kLanes);
  const std::uint32_t now = clocks.now(thread);
  if (shadow.read < clocks.last_barrier()) {
    shadow.readers = 0;
    shadow.reading_warp = warp;
  } else if (shadow.reading_warp != warp) {
    shadow.reading_warp = kMany;
  } else if (shadow.read != now) {
    // Readers that came before this one are forgotten: who comes after it comes after them.
    for (int reader = 0; reader < kLanes; ++reader) {
      if (shadow.read < clocks.seen(thread, reader)) shadow.readers &= ~(1u << reader);
    }
  }
  shadow.readers |= 1u << lane;
  shadow.read = std::max(shadow.read, now);
}

SharedMemory::Verdict SharedMemory::read(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes) {
  Verdict verdict{Verdict::kNothing, offset, kSeveral};
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    Shadow& shadow = shadows_[i];
    if (verdict.what == Verdict::kNothing) {
      if (shadow.pending && shadow.written >= clocks.block_start()) {
        verdict = {Verdict::kPending, i, shadow.writer};
      } else if (shadow.written < clocks.block_start()) {
        verdict = {Verdict::kUnwritten, i, kSeveral};
      } else if (int other = 0; write_races(clocks, thread, shadow, &other)) {
        verdict = {Verdict::kRace, i, other};
      }
    }
    note_read(clocks, thread, shadow);
  }
  return verdict;
}

SharedMemory::Verdict SharedMemory::change(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes,
                                           bool atomically, bool pending) {
  Verdict verdict{Verdict::kNothing, offset, kSeveral};
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    Shadow& shadow = shadows_[i];
    const bool recent = shadow.written >= clocks.last_barrier();
    const bool both_atomic = atomically && shadow.atomically && recent;
    if (verdict.what == Verdict::kNothing) {
      int other = 0;
      if (shadow.pending && shadow.written >= clocks.block_start()) {
        verdict = {Verdict::kPending, i, shadow.writer};
      } else if (atomically && shadow.written < clocks.block_start()) {
        verdict = {Verdict::kUnwritten, i, kSeveral};
      } else if (!both_atomic && write_races(clocks, thread, shadow, &other)) {
        verdict = {Verdict::kRace, i, other};
      } else if (reads_race(clocks, thread, shadow, &other)) {
        verdict = {Verdict::kRace, i, other};
      }
    }
    shadow.writer = both_atomic && shadow.writer != thread ? kMany : static_cast<std::uint16_t>(thread);
    shadow.written = clocks.now(thread);
    shadow.read = 0;
    shadow.readers = 0;
    shadow.atomically = atomically;
    shadow.pending = pending;
  }
  return verdict;
}

SharedMemory::Verdict SharedMemory::write(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes) {
  return change(clocks, thread, offset, bytes, false, false);
}

SharedMemory::Verdict SharedMemory::update(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes) {
  return change(clocks, thread, offset, bytes, true, false);
}

SharedMemory::Verdict SharedMemory::begin_copy(const Clocks& clocks, int thread, std::size_t offset,
                                               std::size_t bytes) {
  return change(clocks, thread, offset, bytes, false, true);
}

void SharedMemory::end_copy(const Clocks& clocks, int thread, std::size_t offset, std::size_t bytes) {
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    Shadow& shadow = shadows_[i];
    shadow.pending = false;
    shadow.written = clocks.now(thread);
    shadow.writer = static_cast<std::uint16_t>(thread);
  }
}

}  // namespace eqnet::emulator
