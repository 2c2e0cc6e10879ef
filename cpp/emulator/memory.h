#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "addresses.h"

namespace eqnet::emulator {

// What a byte that nobody has written holds: NaN in every floating type.
constexpr unsigned char kPoison = 0xff;

// A piece of global memory.
struct Allocation {
  std::string name;
  std::uintptr_t address;
  bool read_only;
  std::vector<unsigned char> bytes;
  std::vector<unsigned char> written;  // whether each byte was
  std::vector<std::uint32_t> stamps;   // of the last write to each byte (block_order.h)
  std::uint32_t last_stamp = 0;        // of all writes
  std::vector<std::uint32_t> cache_slots;  // of each sector (cache.h)
  std::int64_t read_sectors = 0;       // of 32 bytes, that warps asked for in all launches
  std::int64_t write_sectors = 0;
};

// Makes the pieces of global memory, far enough from each other that small errors do not lead from one to the next.
Allocation* allocate(std::string name, std::size_t bytes, bool read_only);
void release(Allocation* allocation);
Allocation* allocation_at(std::uintptr_t address);                // that holds the address, or null
const Allocation* allocation_near(std::uintptr_t address);        // the one before it, or null

// An array in global memory, as cudaMalloc makes it: an input with its values, or an output with poison.
template <typename T>
class Buffer {
 public:
  using Value = std::remove_const_t<T>;

  // An input, which kernels may not write if T is const.
  Buffer(std::string name, const std::vector<Value>& values)
      : allocation_(allocate(std::move(name), values.size() * sizeof(T), std::is_const_v<T>)) {
    set(values);
  }
  // An output of `count` elements.
  Buffer(std::string name, std::size_t count) : allocation_(allocate(std::move(name), count * sizeof(T), false)) {}
  ~Buffer() { release(allocation_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // What kernels take. It cannot be followed here.
  T* address() const { return reinterpret_cast<T*>(allocation_->address); }

  std::vector<Value> values() const {
    std::vector<Value> copy(allocation_->bytes.size() / sizeof(T));
    if (!copy.empty()) std::memcpy(copy.data(), allocation_->bytes.data(), allocation_->bytes.size());
    return copy;
  }
  void set(const std::vector<Value>& values) {
    if (!values.empty()) std::memcpy(allocation_->bytes.data(), values.data(), allocation_->bytes.size());
    allocation_->written.assign(allocation_->bytes.size(), 1);
  }

  std::size_t unwritten_bytes() const {
    std::size_t count = 0;
    for (const unsigned char written : allocation_->written) count += !written;
    return count;
  }
  std::int64_t read_bytes() const { return allocation_->read_sectors * 32; }    // in whole sectors, by all launches
  std::int64_t write_bytes() const { return allocation_->write_sectors * 32; }  // the same

 private:
  Allocation* allocation_;
};

}  // namespace eqnet::emulator
