#include "report.h"

#include <cstring>

namespace eqnet::emulator {
namespace {

std::string text(const uint3& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

}  // namespace

bool operator==(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

const char* name(Kind kind) {
  switch (kind) {
    case Kind::kOutOfBounds: return "out of bounds";
    case Kind::kMisaligned: return "misaligned";
    case Kind::kReadOnly: return "write to an input";
    case Kind::kUnwritten: return "unwritten memory";
    case Kind::kRace: return "race";
    case Kind::kUnfinished: return "unfinished copy";
    case Kind::kDivergence: return "divergence";
    case Kind::kArgument: return "argument";
  }
  return "";
}

void Traffic::add(const Traffic& other) {
  read_sectors += other.read_sectors;
  least_read_sectors += other.least_read_sectors;
  write_sectors += other.write_sectors;
  least_write_sectors += other.least_write_sectors;
  global_accesses += other.global_accesses;
  shared_accesses += other.shared_accesses;
  bank_conflicts += other.bank_conflicts;
}

std::int64_t Report::count(Kind kind) const {
  std::int64_t found = 0;
  for (const Finding& finding : findings) found += finding.kind == kind;
  return found;
}

std::string Report::text() const {
  std::string all;
  for (const Finding& finding : findings) {
    all += std::string(finding.site.file) + ":" + std::to_string(finding.site.line) + ": " + name(finding.kind) +
           " in " + finding.kernel + ", block " + emulator::text(finding.block) + ", thread " +
           emulator::text(finding.thread) + ": " + finding.text;
    if (finding.times > 1) all += " (" + std::to_string(finding.times) + " times)";
    all += "\n";
  }
  return all;
}

}  // namespace eqnet::emulator
