#include "eqnet/roofline.h"

#include <algorithm>
#include <atomic>

#include "eqnet/threads.h"
#include "loops.h"

namespace eqnet {

extern const RooflineLoops kRooflinePortable;
#if defined(__x86_64__)
extern const RooflineLoops kRooflineAvx2;
extern const RooflineLoops kRooflineAvx512;
#elif defined(__aarch64__)
extern const RooflineLoops kRooflineNeon;
#endif

namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kStretch = std::size_t{128} << 10;  // bytes that a thread reads at a time
constexpr int kPieces = 8;  // of a thread's share of products, so that none waits long for the last one

std::atomic<std::uint64_t> sink;

const RooflineLoops& loops() {
  static const RooflineLoops& best = []() -> const RooflineLoops& {
    const RooflineLoops* const table[] = {
#if defined(__x86_64__)
        &kRooflineAvx512, &kRooflineAvx2,
#elif defined(__aarch64__)
        &kRooflineNeon,
#endif
    };
    for (const RooflineLoops* entry : table) {
      if (entry->isa == isa()) return *entry;
    }
    return kRooflinePortable;
  }();
  return best;
}

double multiply(std::uint64_t (*loop)(std::int64_t), double operations, std::int64_t repeats, int threads) {
  const std::int64_t rounds = std::max<std::int64_t>(repeats / kPieces, 1);
  const std::int64_t pieces = std::int64_t{kPieces} * std::max(threads, 1);
  parallel_for(pieces, threads, [&](std::int64_t) { sink.fetch_xor(loop(rounds), std::memory_order_relaxed); });
  return operations * static_cast<double>(rounds) * static_cast<double>(pieces);
}

}  // namespace

void read_memory(const void* memory, std::size_t bytes, int repeats, int threads) {
  const RooflineLoops& table = loops();
  const std::size_t lines = bytes / kLine;
  // Each thread has several stretches, also of memory that fits into a small cache.
  const std::size_t per_thread = lines / (4 * static_cast<std::size_t>(std::max(threads, 1))) + 1;
  const std::size_t stretch = std::min(kStretch / kLine, per_thread);
  const std::size_t count = (lines + stretch - 1) / stretch;
  const auto* first = static_cast<const std::uint8_t*>(memory);
  parallel_for(static_cast<std::int64_t>(count) * repeats, threads, [&](std::int64_t i) {
    const std::size_t start = static_cast<std::size_t>(i) % count * stretch;
    const std::uint64_t found = table.read(first + start * kLine, std::min(stretch, lines - start));
    sink.fetch_xor(found, std::memory_order_relaxed);
  });
}

double multiply_int8(std::int64_t repeats, int threads) {
  return multiply(loops().multiply_int8, loops().int8_operations, repeats, threads);
}

double multiply_float(std::int64_t repeats, int threads) {
  return multiply(loops().multiply_float, loops().float_operations, repeats, threads);
}

}  // namespace eqnet
