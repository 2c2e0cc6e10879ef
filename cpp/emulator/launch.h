#pragma once

#include <functional>
#include <string>

#include "report.h"
#include "vectors.h"

namespace eqnet::emulator {

// How a kernel is launched: what stands between <<< and >>>, and what it is called in findings.
struct Launch {
  std::string kernel;
  dim3 grid;
  dim3 block;
  std::size_t dynamic_bytes = 0;  // of shared memory
  bool backwards = false;         // the last block first: no result may depend on the order of blocks
  std::size_t cache_bytes = std::size_t{4} << 20;  // between the multiprocessors and memory
};

// Runs all blocks, one after another. After a divergence that its threads cannot leave, the rest is left out.
// Throws std::invalid_argument for what no GPU takes.
Report run(const Launch& launch, const std::function<void()>& thread);

template <typename... Parameters, typename... Arguments>
Report run(const Launch& launch, void (*kernel)(Parameters...), const Arguments&... arguments) {
  return run(launch, std::function<void()>([&] { kernel(arguments...); }));
}

}  // namespace eqnet::emulator
