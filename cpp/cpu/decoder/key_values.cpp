#include "key_values.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace eqnet {
namespace {

constexpr std::int64_t kLineFloats = kLine / static_cast<std::int64_t>(sizeof(float));

}  // namespace

KeyValues::KeyValues(std::int64_t blocks, std::int64_t heads, std::int64_t head_dim, std::int64_t length)
    : heads_(heads),
      head_dim_(head_dim),
      parts_((head_dim + kPanel - 1) / kPanel),
      capacity_((length + kPanel - 1) / kPanel * kPanel) {
  const std::int64_t keys = blocks * heads * capacity_ * head_dim;
  const std::int64_t values = blocks * heads * capacity_ * parts_ * kPanel;
  // Of calloc, as it does not touch what the system gives zeroed; it begins at a line of the cache nowhere but by chance.
  auto* memory = static_cast<float*>(
      std::calloc(static_cast<std::size_t>(keys + values + kLineFloats), sizeof(float)));
  if (memory == nullptr) throw std::bad_alloc();
  memory_.reset(memory);
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  keys_ = memory + (-address % static_cast<std::uintptr_t>(kLine)) / sizeof(float);
  values_ = keys_ + keys;
}

void KeyValues::Release::operator()(float* memory) const { std::free(memory); }

void KeyValues::put(std::int64_t block, std::int64_t head, std::int64_t token, const float* key, const float* value) {
  float* tile = keys_ + key_offset(block, head, token / kPanel) + token % kPanel;
  for (std::int64_t i = 0; i < head_dim_; ++i) tile[i * kPanel] = key[i];
  for (std::int64_t part = 0; part < parts_; ++part) {
    std::copy(value + part * kPanel, value + std::min((part + 1) * kPanel, head_dim_),
              values_ + value_offset(block, head, part, token));
  }
}

}  // namespace eqnet
