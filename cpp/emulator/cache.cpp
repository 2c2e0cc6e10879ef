#include "cache.h"

namespace eqnet::emulator {

void SectorCache::begin_launch(std::size_t bytes) {
  most_ = bytes / kSectorBytes + 1;
  entries_.assign(1, {0, 0, 0, false});
  reads_ = writes_ = 0;
}

void SectorCache::unlink(std::uint32_t at) {
  entries_[entries_[at].newer].older = entries_[at].older;
  entries_[entries_[at].older].newer = entries_[at].newer;
}

void SectorCache::link_newest(std::uint32_t at) {
  const std::uint32_t before = entries_[0].older;
  entries_[at].newer = 0;
  entries_[at].older = before;
  entries_[before].newer = entries_[0].older = at;
}

std::uint32_t SectorCache::make_room() {
  if (entries_.size() < most_) {
    entries_.push_back({});
    return static_cast<std::uint32_t>(entries_.size() - 1);
  }
  const std::uint32_t oldest = entries_[0].newer;
  unlink(oldest);
  writes_ += entries_[oldest].dirty;
  return oldest;
}

void SectorCache::access(std::uint32_t& slot, std::uintptr_t sector, bool write) {
  if (most_ == 1) {  // no cache
    ++(write ? writes_ : reads_);
    return;
  }
  const bool hit = slot != 0 && slot < entries_.size() && entries_[slot].sector == sector;
  if (hit) {
    entries_[slot].dirty |= write;
    if (entries_[0].older == slot) return;
    unlink(slot);
  } else {
    slot = make_room();
    entries_[slot].sector = sector;
    entries_[slot].dirty = write;
    reads_ += !write;
  }
  link_newest(slot);
}

void SectorCache::end_launch() {
  for (Entry& entry : entries_) {
    writes_ += entry.dirty;
    entry.dirty = false;
  }
}

}  // namespace eqnet::emulator
