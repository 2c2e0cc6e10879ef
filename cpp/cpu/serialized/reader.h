// Takes serialized models apart, number by number; nothing is believed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "eqnet/panels.h"

namespace eqnet::serialized {

enum class Kind : std::int32_t { kProgram = 1, kLinearLayers = 2 };

// A weight as it is stored: a view of the bytes.
struct Weight {
  std::int64_t rows, cols;
  std::int64_t group_size;  // 1 to cols
  int bits;                 // 2 to 8
  bool symmetric, scale_per_row;
  ScaleType scale_type;
  const std::uint8_t* codes;
  const std::uint8_t* scale;
  const std::uint8_t* zero_point;  // null if symmetric

  std::int64_t groups() const { return (cols + group_size - 1) / group_size; }
  std::int64_t scales() const { return (scale_per_row ? rows : 1) * groups(); }
};

class Reader {
 public:
  // Checks the header. Throws std::invalid_argument, as all that follows does.
  Reader(const std::uint8_t* data, std::size_t bytes, Kind kind);

  // What is being read, for messages: "operation 3".
  void enter(std::string place) { place_ = std::move(place); }

  std::int64_t integer(const char* name, std::int64_t least, std::int64_t greatest);
  bool flag(const char* name) { return integer(name, 0, 1) == 1; }
  float real(const char* name);  // not NaN
  // `count` elements of `size` bytes and the zeros that follow them.
  const std::uint8_t* array(const char* name, std::int64_t count, std::int64_t size);
  std::vector<float> floats(const char* name, std::int64_t count);
  // How many of something follow: each takes 4 bytes at least.
  std::int64_t count(const char* name);
  std::vector<Weight> weights();
  void end() const;

  [[noreturn]] void fail(const std::string& problem) const;

 private:
  std::int64_t left() const { return end_ - at_; }
  const std::uint8_t* planes(const char* name, std::int64_t count, int bits);
  Weight weight();

  const std::uint8_t* at_;
  const std::uint8_t* end_;
  std::string place_ = "header";
};

}  // namespace eqnet::serialized
