#include "copies.h"

namespace eqnet::emulator {

std::vector<Copy> Copies::take(std::size_t left) {
  std::vector<Copy> taken;
  while (groups_.size() > left) {
    taken.insert(taken.end(), groups_.front().begin(), groups_.front().end());
    groups_.pop_front();
  }
  return taken;
}

bool Copies::pending() const {
  for (const std::vector<Copy>& group : groups_) {
    if (!group.empty()) return true;
  }
  return !open_.empty();
}

Site Copies::first_site() const {
  for (const std::vector<Copy>& group : groups_) {
    if (!group.empty()) return group.front().site;
  }
  return open_.front().site;
}

}  // namespace eqnet::emulator
