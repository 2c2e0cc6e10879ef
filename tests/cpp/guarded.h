// Memory that ends where the pages that can be accessed do.
//
// A load or store past the end stops the program, whoever does it: also vectors that no sanitizer has looked at, and code
// that an emulator runs. What lies around the memory has a pattern, which is looked at when the memory is released.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace check {

void* guarded_allocate(std::size_t bytes, std::size_t alignment);
void guarded_release(void* memory);

// `count` elements; aligned to no more than they need, unless more is asked for.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count, std::size_t alignment = alignof(T))
      : count_(count),
        data_(static_cast<T*>(guarded_allocate(static_cast<std::size_t>(count) * sizeof(T), alignment))) {}
  explicit Guarded(const std::vector<T>& values) : Guarded(static_cast<std::int64_t>(values.size())) {
    if (count_ > 0) std::memcpy(data_, values.data(), values.size() * sizeof(T));
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { guarded_release(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::int64_t size() const { return count_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  std::int64_t count_;
  T* data_;
};

}  // namespace check
