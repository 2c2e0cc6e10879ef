#include "machine.h"

#include <utility>

namespace eqnet::emulator {

Machine& machine() {
  static Machine the_one;
  return the_one;
}

void Machine::find(Kind kind, const Site& site, const Thread& thread, std::string text) {
  for (Finding& known : report.findings) {
    if (known.kind == kind && known.site == site) {
      ++known.times;
      return;
    }
  }
  report.findings.push_back({kind, kernel, block.index(), thread.index, site, std::move(text)});
}

}  // namespace eqnet::emulator
