#include "traffic.h"

#include <algorithm>

#include "memory.h"

namespace eqnet::emulator {
namespace {

constexpr std::uintptr_t kSector = kSectorBytes;
constexpr std::uintptr_t kBanks = 32;
constexpr std::uintptr_t kBankBytes = 4;

// Asks the cache for the sectors of sorted addresses.
void ask_for(SectorCache& cache, Access access, const std::uintptr_t* addresses, int count) {
  Allocation* allocation = nullptr;
  std::uintptr_t last = 0;
  for (int i = 0; i < count; ++i) {
    const std::uintptr_t sector = addresses[i] / kSector;
    if (sector == last) continue;
    last = sector;
    if (allocation == nullptr || addresses[i] - allocation->address >= allocation->bytes.size()) {
      allocation = allocation_at(addresses[i]);
    }
    if (allocation == nullptr) continue;
    std::uint32_t& slot = allocation->cache_slots[(addresses[i] - allocation->address) / kSector];
    if (access != Access::kWrite) cache.access(slot, sector, false);
    if (access != Access::kRead) cache.access(slot, sector, true);
  }
}

}  // namespace

Sectors count_sectors(const std::uintptr_t* addresses, int count, int bytes) {
  Sectors sectors{0, 0};
  std::int64_t distinct = 0;
  for (int i = 0; i < count; ++i) {
    if (i > 0 && addresses[i] == addresses[i - 1]) continue;
    ++distinct;
    if (i == 0 || addresses[i] / kSector != addresses[i - 1] / kSector) ++sectors.asked_for;
  }
  sectors.least = (distinct * bytes + static_cast<std::int64_t>(kSector) - 1) / static_cast<std::int64_t>(kSector);
  return sectors;
}

std::int64_t count_conflicts(const std::uintptr_t* addresses, unsigned lanes, int bytes) {
  // Accesses of 8 bytes are served in halves of a warp, those of 16 in quarters: 128 bytes in one pass.
  const int words = std::max(1, bytes / static_cast<int>(kBankBytes));
  const int at_once = kLanes / words;
  std::int64_t conflicts = 0;
  for (int first = 0; first < kLanes; first += at_once) {
    std::array<std::uintptr_t, kLanes> asked;
    std::array<std::uintptr_t, kBanks> first_of_bank;
    std::uint32_t banks = 0;  // that are asked for anything
    bool conflict = false;
    int count = 0;
    for (int lane = first; lane < first + at_once; ++lane) {
      if (!(lanes >> lane & 1)) continue;
      for (int i = 0; i < words; ++i) {
        const std::uintptr_t word = addresses[lane] / kBankBytes + static_cast<std::uintptr_t>(i);
        const std::uintptr_t bank = word % kBanks;
        if (!(banks >> bank & 1)) first_of_bank[bank] = word;
        banks |= 1u << bank;
        conflict |= first_of_bank[bank] != word;
        asked[static_cast<std::size_t>(count++)] = word;
      }
    }
    if (!conflict) continue;  // as nearly always
    std::sort(asked.begin(), asked.begin() + count);
    count = static_cast<int>(std::unique(asked.begin(), asked.begin() + count) - asked.begin());
    std::array<int, kBanks> of_bank{};
    int most = 0;
    for (int i = 0; i < count; ++i) {
      most = std::max(most, ++of_bank[asked[static_cast<std::size_t>(i)] % kBanks]);
    }
    conflicts += std::max(0, most - 1);
  }
  return conflicts;
}

WarpAccesses::Instruction& WarpAccesses::instruction(const Site& site, Access access, bool shared, int bytes,
                                                     std::uint32_t mark) {
  // Lanes mostly repeat what they did, or go on to the next place.
  const std::size_t count = instructions_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = last_ + i < count ? last_ + i : last_ + i - count;
    Instruction& known = instructions_[at];
    if (known.mark == mark && known.bytes == bytes && known.access == access && known.shared == shared &&
        known.site == site) {
      last_ = at;
      return known;
    }
  }
  last_ = count;
  instructions_.push_back({site, access, shared, bytes, mark, static_cast<std::size_t>(-1)});
  return instructions_.back();
}

void WarpAccesses::add(int lane, const Site& site, Access access, bool shared, std::uintptr_t address, int bytes) {
  Instruction& at = instruction(site, access, shared, bytes, marks_[static_cast<std::size_t>(lane)]);
  const std::size_t time = at.times[static_cast<std::size_t>(lane)]++;
  if (time == at.used) {
    if (at.used == at.groups.size()) at.groups.emplace_back();
    at.groups[at.used++].lanes = 0;
  }
  Group& group = at.groups[time];
  group.lanes |= 1u << lane;
  group.addresses[static_cast<std::size_t>(lane)] = address;
}

void WarpAccesses::count(const Instruction& instruction, const Group& group, Traffic& traffic, SectorCache& cache) {
  if (instruction.shared) {
    ++traffic.shared_accesses;
    traffic.bank_conflicts += count_conflicts(group.addresses.data(), group.lanes, instruction.bytes);
    return;
  }
  std::array<std::uintptr_t, kLanes> addresses;
  int count = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    if (group.lanes >> lane & 1) addresses[static_cast<std::size_t>(count++)] = group.addresses[lane];
  }
  if (!std::is_sorted(addresses.begin(), addresses.begin() + count)) {
    std::sort(addresses.begin(), addresses.begin() + count);
  }
  const Sectors sectors = count_sectors(addresses.data(), count, instruction.bytes);
  Allocation* allocation = allocation_at(addresses[0]);
  ++traffic.global_accesses;
  ask_for(cache, instruction.access, addresses.data(), count);
  if (instruction.access == Access::kRead) {
    traffic.read_sectors += sectors.asked_for;
    traffic.least_read_sectors += sectors.least;
    if (allocation != nullptr) allocation->read_sectors += sectors.asked_for;
  } else {
    traffic.write_sectors += sectors.asked_for;
    traffic.least_write_sectors += sectors.least;
    if (allocation != nullptr) allocation->write_sectors += sectors.asked_for;
  }
}

void WarpAccesses::flush(Report& report, SectorCache& cache) {
  for (Instruction& instruction : instructions_) {
    if (instruction.used == 0) continue;
    if (instruction.report_index >= report.sites.size()) {
      std::size_t at = 0;
      while (at < report.sites.size() && report.sites[at].site != instruction.site) ++at;
      if (at == report.sites.size()) report.sites.push_back({instruction.site, {}});
      instruction.report_index = at;
    }
    Traffic traffic;
    for (std::size_t i = 0; i < instruction.used; ++i) count(instruction, instruction.groups[i], traffic, cache);
    report.sites[instruction.report_index].traffic.add(traffic);
    report.traffic.add(traffic);
    instruction.used = 0;
    instruction.times = {};
  }
  marks_ = {};
}

}  // namespace eqnet::emulator
