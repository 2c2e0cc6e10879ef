#include "key_values.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace eqnet {
namespace {

#if defined(__linux__)
// In large pages, where the system has them: small ones cost a good part of the bandwidth.
float* take(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<float*>(memory);
}

void give(float* memory, std::size_t bytes) { munmap(memory, bytes); }
#else
// Of calloc, as it does not touch what the system gives zeroed.
float* take(std::size_t bytes) {
  void* memory = std::calloc(bytes, 1);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<float*>(memory);
}

void give(float* memory, std::size_t) { std::free(memory); }
#endif

}  // namespace

KeyValues::KeyValues(std::int64_t blocks, std::int64_t heads, std::int64_t head_dim, std::int64_t length)
    : blocks_(blocks), heads_(heads), head_dim_(head_dim), parts_((head_dim + kPanel - 1) / kPanel) {
  const std::int64_t stretches = std::max<std::int64_t>((length + kStretch - 1) / kStretch, 1);
  const auto bytes = static_cast<std::size_t>(record(0, 0, stretches * kStretch)) * sizeof(float);
  memory_ = std::unique_ptr<float[], Release>(take(bytes), Release{bytes});
}

void KeyValues::Release::operator()(float* memory) const { give(memory, bytes); }

void KeyValues::put(std::int64_t block, std::int64_t head, std::int64_t token, const float* key, const float* value) {
  float* tile = memory_.get() + key_offset(block, head, token) + token % kPanel;
  for (std::int64_t i = 0; i < head_dim_; ++i) tile[i * kPanel] = key[i];
  for (std::int64_t part = 0; part < parts_; ++part) {
    std::copy(value + part * kPanel, value + std::min((part + 1) * kPanel, head_dim_),
              memory_.get() + value_offset(block, head, part, token));
  }
}

}  // namespace eqnet
