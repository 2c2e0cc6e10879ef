// Memory that a thread keeps from call to call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace eqnet {

// Uninitialised memory, aligned to 64 bytes, that only grows.
class Scratch {
 public:
  template <class T>
  T* get(std::int64_t count) {
    const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes > size_) {
      memory_.reset();
      memory_.reset(::operator new(bytes, std::align_val_t{64}));
      size_ = bytes;
    }
    return static_cast<T*>(memory_.get());
  }

 private:
  struct Release {
    void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };
  std::unique_ptr<void, Release> memory_;
  std::size_t size_ = 0;
};

}  // namespace eqnet
