#include "launch.h"

#include <stdexcept>
#include <utility>

#include "machine.h"

namespace eqnet::emulator {
namespace {

constexpr unsigned kMostThreads = 1024;              // of a block
constexpr std::size_t kMostDynamicBytes = 227 * 1024;  // on sm_90; less on most others

}  // namespace

Report run(const Launch& launch, const std::function<void()>& thread) {
  const std::size_t threads = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
  const std::size_t blocks = std::size_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  if (threads == 0 || threads > kMostThreads || blocks == 0 || launch.dynamic_bytes > kMostDynamicBytes) {
    throw std::invalid_argument(launch.kernel + ": " + std::to_string(blocks) + " blocks of " +
                                std::to_string(threads) + " threads with " + std::to_string(launch.dynamic_bytes) +
                                " bytes of dynamic shared memory; a grid has at least one block, a block 1 to 1024 " +
                                "threads and at most 232448 bytes");
  }
  Machine& machine = emulator::machine();
  machine.kernel = launch.kernel;
  machine.report = {};
  machine.shared.begin_launch(launch.dynamic_bytes);
  machine.block.begin_launch();
  machine.order.begin_launch();
  machine.cache.begin_launch(launch.cache_bytes);
  blockDim = launch.block;
  gridDim = launch.grid;
  for (std::size_t i = 0; i < blocks; ++i) {
    const auto number = static_cast<unsigned>(launch.backwards ? blocks - 1 - i : i);
    machine.shared.begin_block();
    machine.order.begin_block();
    const uint3 index{number % launch.grid.x, number / launch.grid.x % launch.grid.y,
                      number / launch.grid.x / launch.grid.y};
    if (!machine.block.run(launch.block, index, thread)) break;
  }
  machine.cache.end_launch();
  machine.report.memory_read_bytes = machine.cache.read_bytes();
  machine.report.memory_written_bytes = machine.cache.written_bytes();
  machine.report.shared_bytes = static_cast<std::int64_t>(machine.shared.bytes());
  return std::move(machine.report);
}

}  // namespace eqnet::emulator
