// Loops over a pool of threads.
#pragma once

#include <cstdint>

namespace eqnet {
namespace detail {

using Task = void (*)(const void* body, std::int64_t index);

void run(std::int64_t count, int threads, Task task, const void* body);

}  // namespace detail

// Calls body(i) for every i in [0, count), on up to `threads` threads, the calling one included, and returns when all
// calls have ended. Each thread has a share of the indices, which it takes in ascending order, one at a time, and then
// what is left of the others' shares: a thread that has lost its core to another process costs no more than the one
// index that it is at.
//
// Several threads may call at once: the first one gets the pool, the others, and calls from within a body, run alone.
// `body` must not throw.
template <class Body>
void parallel_for(std::int64_t count, int threads, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  detail::run(
      count, threads, [](const void* erased, std::int64_t i) { (*static_cast<const Body*>(erased))(i); }, &body);
}

}  // namespace eqnet
