#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "cache.h"

namespace eqnet::emulator {
namespace {

constexpr std::size_t kAlignment = 256;  // that of cudaMalloc
constexpr std::size_t kApart = 4096;     // bytes between two pieces, at least

struct Memory {
  std::map<std::uintptr_t, std::unique_ptr<Allocation>> allocations;
  std::uintptr_t next = 0;
  Allocation* last = nullptr;  // that was asked for
};

Memory& memory() {
  static Memory all;
  return all;
}

}  // namespace

Allocation* allocate(std::string name, std::size_t bytes, bool read_only) {
  Memory& all = memory();
  const std::uintptr_t first = address_space() + kSharedSpace;
  if (all.allocations.empty()) all.next = first + kApart;
  const std::uintptr_t address = all.next;
  all.next += (bytes + kApart + kAlignment - 1) / kAlignment * kAlignment;
  if (all.next > first + kGlobalSpace) {
    std::fprintf(stderr, "emulator: no addresses for %zu bytes of '%s'\n", bytes, name.c_str());
    std::abort();
  }
  auto made = std::make_unique<Allocation>();
  made->name = std::move(name);
  made->address = address;
  made->read_only = read_only;
  made->bytes.assign(bytes, kPoison);
  made->written.assign(bytes, 0);
  made->stamps.assign(bytes, 0);
  made->cache_slots.assign((bytes + kSectorBytes - 1) / kSectorBytes, 0);
  return all.allocations.emplace(address, std::move(made)).first->second.get();
}

void release(Allocation* allocation) {
  Memory& all = memory();
  if (all.last == allocation) all.last = nullptr;
  all.allocations.erase(allocation->address);
}

const Allocation* allocation_near(std::uintptr_t address) {
  const auto& allocations = memory().allocations;
  const auto after = allocations.upper_bound(address);
  return after == allocations.begin() ? nullptr : std::prev(after)->second.get();
}

Allocation* allocation_at(std::uintptr_t address) {
  Memory& all = memory();
  if (all.last != nullptr && address - all.last->address < all.last->bytes.size()) return all.last;
  const auto after = all.allocations.upper_bound(address);
  if (after == all.allocations.begin()) return nullptr;
  Allocation* found = std::prev(after)->second.get();
  if (address - found->address >= found->bytes.size()) return nullptr;
  all.last = found;
  return found;
}

}  // namespace eqnet::emulator
