#include "access.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "addresses.h"
#include "machine.h"
#include "memory.h"

namespace eqnet::emulator {
namespace {

// Bytes that may be accessed: of shared memory, or of an allocation.
struct Place {
  unsigned char* bytes = nullptr;   // null if there is none
  std::size_t offset = 0;           // in shared memory, or in the allocation
  Allocation* allocation = nullptr;  // null in shared memory
};

std::string describe(const char* verb, std::size_t bytes, std::size_t offset, const std::string& name) {
  return std::string(verb) + " " + std::to_string(bytes) + " bytes at byte " + std::to_string(offset) + " of '" + name +
         "'";
}

std::string outside(const char* verb, std::size_t bytes, const void* pointer) {
  const std::uintptr_t address = address_of(pointer);
  if (is_shared(pointer)) {
    const std::size_t offset = address - address_space();
    const SharedMemory::Array* near = machine().shared.array_near(offset);
    if (near != nullptr) {
      return describe(verb, bytes, offset - near->offset, near->name) + ", which has " + std::to_string(near->bytes);
    }
  } else if (address - address_space() < kSharedSpace + kGlobalSpace) {
    const Allocation* near = allocation_near(address);
    if (near != nullptr) {
      return describe(verb, bytes, address - near->address, near->name) + ", which has " +
             std::to_string(near->bytes.size());
    }
  }
  char text[64];
  std::snprintf(text, sizeof(text), " %zu bytes at %p, where no memory of the device is", bytes, pointer);
  return verb + std::string(text);
}

Place find_place(const void* pointer, std::size_t bytes, std::size_t alignment, const char* verb, const Site& site,
                 const Thread& thread) {
  Place place;
  std::string name;
  std::size_t offset = 0, size = 0;
  if (is_shared(pointer)) {
    place.offset = address_of(pointer) - address_space();
    const SharedMemory::Array* array = machine().shared.array_at(place.offset);
    if (array != nullptr) {
      offset = place.offset - array->offset;
      size = array->bytes;
      if (offset + bytes <= size && address_of(pointer) % alignment == 0) {
        place.bytes = machine().shared.data(place.offset);
        return place;
      }
      name = array->name;
    }
  } else if (Allocation* allocation = allocation_at(address_of(pointer))) {
    offset = place.offset = address_of(pointer) - allocation->address;
    size = allocation->bytes.size();
    if (offset + bytes <= size && offset % alignment == 0) {
      place.bytes = allocation->bytes.data() + offset;
      place.allocation = allocation;
      return place;
    }
    name = allocation->name;
  }
  if (size == 0 || offset + bytes > size) {
    machine().find(Kind::kOutOfBounds, site, thread, outside(verb, bytes, pointer));
  } else {
    machine().find(Kind::kMisaligned, site, thread,
                   describe(verb, bytes, offset, name) + ", which is no multiple of " + std::to_string(alignment));
  }
  return place;
}

// Tells of what is wrong with an access to shared memory, if anything is.
void tell(const SharedMemory::Verdict& verdict, const char* verb, const Site& site, const Thread& thread) {
  using Verdict = SharedMemory::Verdict;
  if (verdict.what == Verdict::kNothing) return;
  const SharedMemory::Array* array = machine().shared.array_at(verdict.offset);
  std::string text = std::string(verb) + " byte " + std::to_string(verdict.offset - array->offset) + " of '" +
                     array->name + "', ";
  const std::string other = verdict.other == SharedMemory::kSeveral ? "several threads"
                                                                    : "thread " + std::to_string(verdict.other);
  switch (verdict.what) {
    case Verdict::kUnwritten:
      machine().find(Kind::kUnwritten, site, thread, text + "which no thread of the block has written");
      break;
    case Verdict::kPending:
      machine().find(Kind::kUnfinished, site, thread, text + "to which a copy goes for which " + other +
                                                          " has not waited");
      break;
    default:
      machine().find(Kind::kRace, site, thread, text + "which " + other + " accessed, and no barrier is between");
  }
}

void note(const Thread& thread, const Place& place, Access access, std::size_t bytes, const Site& site) {
  const bool shared = place.allocation == nullptr;
  thread.warp->accesses.add(thread.lane, site, access, shared,
                            shared ? place.offset : place.allocation->address + place.offset, static_cast<int>(bytes));
}

// Whether the bytes of an allocation have all been written; tells if not.
void check_written(const Place& place, std::size_t bytes, const char* verb, const Site& site, const Thread& thread) {
  const unsigned char* first = place.allocation->written.data() + place.offset;
  const auto* unwritten = static_cast<const unsigned char*>(std::memchr(first, 0, bytes));
  if (unwritten == nullptr) return;
  const std::size_t offset = place.offset + static_cast<std::size_t>(unwritten - first);
  machine().find(Kind::kUnwritten, site, thread,
                 describe(verb, bytes, place.offset, place.allocation->name) + ", of which byte " +
                     std::to_string(offset) + " was never written");
}

// Tells if another block may be writing to the bytes of an allocation, and stamps them if they are written now.
void check_blocks(const Place& place, std::size_t bytes, Access access, const char* verb, const Site& site,
                  const Thread& thread) {
  constexpr std::uint32_t kAtomic = 1u << 31;  // marks stamps of atomic changes, which do not race with each other
  const BlockOrder& order = machine().order;
  Allocation& allocation = *place.allocation;
  std::uint32_t* stamps = allocation.stamps.data() + place.offset;
  if (order.is_of_launch(allocation.last_stamp)) {
    for (std::size_t i = 0; i < bytes; ++i) {
      if ((access == Access::kAtomic && stamps[i] & kAtomic) || order.is_before(stamps[i] & ~kAtomic)) continue;
      machine().find(Kind::kRace, site, thread,
                     describe(verb, bytes, place.offset, allocation.name) +
                         ", which another block wrote, and no __threadfence and atomic changes are between");
      break;
    }
  }
  if (access == Access::kRead) return;
  allocation.last_stamp = order.now();
  for (std::size_t i = 0; i < bytes; ++i) {
    // A write of this launch remains what an atomic change has to come after.
    const bool kept = access == Access::kAtomic && !(stamps[i] & kAtomic) && order.is_of_launch(stamps[i]);
    if (!kept) stamps[i] = order.now() | (access == Access::kAtomic ? kAtomic : 0);
  }
}

bool may_write(const Place& place, const Site& site, const Thread& thread) {
  if (place.allocation == nullptr || !place.allocation->read_only) return true;
  machine().find(Kind::kReadOnly, site, thread, "writes to '" + place.allocation->name + "'");
  return false;
}

}  // namespace

void read(const void* from, void* to, std::size_t bytes, std::size_t alignment, const Site& site) {
  const Thread& thread = machine().block.thread();
  const Place place = find_place(from, bytes, alignment, "reads", site, thread);
  if (place.bytes == nullptr) {
    std::memset(to, kPoison, bytes);
    return;
  }
  note(thread, place, Access::kRead, bytes, site);
  if (place.allocation != nullptr) {
    check_written(place, bytes, "reads", site, thread);
    check_blocks(place, bytes, Access::kRead, "reads", site, thread);
  } else {
    tell(machine().shared.read(machine().block.clocks(), thread.number, place.offset, bytes), "reads", site, thread);
  }
  std::memcpy(to, place.bytes, bytes);
}

void write(void* to, const void* from, std::size_t bytes, std::size_t alignment, const Site& site) {
  const Thread& thread = machine().block.thread();
  const Place place = find_place(to, bytes, alignment, "writes", site, thread);
  if (place.bytes == nullptr || !may_write(place, site, thread)) return;
  note(thread, place, Access::kWrite, bytes, site);
  if (place.allocation != nullptr) {
    std::memset(place.allocation->written.data() + place.offset, 1, bytes);
    check_blocks(place, bytes, Access::kWrite, "writes", site, thread);
  } else {
    tell(machine().shared.write(machine().block.clocks(), thread.number, place.offset, bytes), "writes", site, thread);
  }
  std::memcpy(place.bytes, from, bytes);
}

unsigned char* update(void* at, std::size_t bytes, std::size_t alignment, const Site& site) {
  const Thread& thread = machine().block.thread();
  const Place place = find_place(at, bytes, alignment, "changes", site, thread);
  if (place.bytes == nullptr || !may_write(place, site, thread)) return nullptr;
  note(thread, place, Access::kAtomic, bytes, site);
  if (place.allocation != nullptr) {
    check_written(place, bytes, "changes", site, thread);
    check_blocks(place, bytes, Access::kAtomic, "changes", site, thread);
    machine().order.change_atomically();
  } else {
    tell(machine().shared.update(machine().block.clocks(), thread.number, place.offset, bytes), "changes", site,
         thread);
  }
  return place.bytes;
}

const unsigned char* matrix_row(const Thread& thread, const void* from, bool used, const Site& site) {
  constexpr std::size_t kRowBytes = 16;
  if (!is_shared(from)) {
    machine().find(Kind::kArgument, site, thread, "ldmatrix takes rows of shared memory only");
    return nullptr;
  }
  const Place place = find_place(from, kRowBytes, kRowBytes, "reads", site, thread);
  if (place.bytes == nullptr || !used) return nullptr;
  note(thread, place, Access::kRead, kRowBytes, site);
  tell(machine().shared.read(machine().block.clocks(), thread.number, place.offset, kRowBytes), "reads", site, thread);
  return place.bytes;
}

void begin_copy(void* to, const void* from, std::size_t bytes, std::size_t valid, const Site& site) {
  Thread& thread = machine().block.thread();
  if (!is_shared(to) || is_shared(from) || valid > bytes) {
    machine().find(Kind::kArgument, site, "cp.async copies from global to shared memory, at most as much as its size");
    return;
  }
  const Place target = find_place(to, bytes, bytes, "copies", site, thread);
  Place source;
  if (valid > 0) source = find_place(from, valid, 1, "copies", site, thread);
  if (valid > 0 && source.bytes != nullptr && source.offset % bytes != 0) {
    machine().find(Kind::kMisaligned, site,
                   describe("copies", bytes, source.offset, source.allocation->name) + ", which is no multiple of it");
  }
  if (target.bytes == nullptr) return;
  if (source.bytes != nullptr) {
    check_written(source, valid, "copies", site, thread);
    check_blocks(source, valid, Access::kRead, "copies", site, thread);
    note(thread, source, Access::kRead, valid, site);
  }
  note(thread, target, Access::kWrite, bytes, site);
  tell(machine().shared.begin_copy(machine().block.clocks(), thread.number, target.offset, bytes), "copies to", site,
       thread);
  thread.copies.add({target.offset, source.bytes, bytes, source.bytes == nullptr ? 0 : valid, site});
}

void commit_copies() {
  Thread& thread = machine().block.thread();
  thread.copies.commit();
  thread.warp->accesses.mark(thread.lane);
}

void wait_for_copies(std::size_t groups_left) {
  Thread& thread = machine().block.thread();
  SharedMemory& shared = machine().shared;
  thread.copies.take(groups_left, [&](const Copy& copy) {
    unsigned char* to = shared.data(copy.to);
    if (copy.valid > 0) std::memcpy(to, copy.from, copy.valid);
    std::memset(to + copy.valid, 0, copy.bytes - copy.valid);
    shared.end_copy(machine().block.clocks(), thread.number, copy.to, copy.bytes);
  });
}

void* shared_array(const void* key, const char* name, std::size_t bytes) {
  const std::size_t offset = machine().shared.declare(key, name, bytes);
  return reinterpret_cast<void*>(address_space() + offset);
}

void* dynamic_shared() { return reinterpret_cast<void*>(address_space() + machine().shared.dynamic()); }

}  // namespace eqnet::emulator
