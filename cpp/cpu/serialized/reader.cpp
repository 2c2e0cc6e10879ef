#include "reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "../planes.h"
#include "../scales.h"
#include "eqnet/crc32.h"
#include "eqnet/serialized.h"

namespace eqnet::serialized {
namespace {

constexpr std::int64_t kNumber = 4;  // bytes
constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

template <class T>
T number(const std::uint8_t* at) {
  static_assert(sizeof(T) == kNumber);
#if defined(__BYTE_ORDER__)
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "serialized models are little-endian");
#endif
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace

Reader::Reader(const std::uint8_t* data, std::size_t bytes, Kind kind) : at_(data), end_(data + bytes) {
  constexpr std::size_t kMagic = sizeof(kSerializedMagic) - 1;
  if (bytes < kMagic || std::memcmp(data, kSerializedMagic, kMagic) != 0) fail("these bytes are no model of eqnet's");
  at_ += kMagic;
  const std::int64_t version = integer("version", -kMost - 1, kMost);
  if (version != kSerializedVersion) {
    fail("version " + std::to_string(version) + "; this library reads version " + std::to_string(kSerializedVersion));
  }
  if (left() < kNumber) fail("the bytes end");
  const auto checksum = number<std::uint32_t>(at_);
  at_ += kNumber;
  if (crc32(at_, left()) != checksum) fail("the checksum is wrong: the bytes are damaged or incomplete");
  const std::int64_t found = integer("kind", 1, 2), wanted = static_cast<std::int64_t>(kind);
  if (found != wanted) fail("kind " + std::to_string(found) + "; expected " + std::to_string(wanted));
}

void Reader::fail(const std::string& problem) const {
  throw std::invalid_argument("serialized model, " + place_ + ": " + problem);
}

std::int64_t Reader::integer(const char* name, std::int64_t least, std::int64_t greatest) {
  if (left() < kNumber) fail("the bytes end where '" + std::string(name) + "' is expected");
  const std::int64_t value = number<std::int32_t>(at_);
  at_ += kNumber;
  if (value < least || value > greatest) {
    fail("'" + std::string(name) + "' is " + std::to_string(value) + "; expected " + std::to_string(least) + " to " +
         std::to_string(greatest));
  }
  return value;
}

float Reader::real(const char* name) {
  if (left() < kNumber) fail("the bytes end where '" + std::string(name) + "' is expected");
  const auto value = number<float>(at_);
  at_ += kNumber;
  if (std::isnan(value)) fail("'" + std::string(name) + "' is no number");
  return value;
}

const std::uint8_t* Reader::array(const char* name, std::int64_t count, std::int64_t size) {
  if (count > left() / size) fail("the bytes end within '" + std::string(name) + "'");
  const std::uint8_t* start = at_;
  at_ += std::min((count * size + kNumber - 1) / kNumber * kNumber, left());
  return start;
}

std::vector<float> Reader::floats(const char* name, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count <= left() ? count : 0));
  const std::uint8_t* from = array(name, count, kNumber);
  if (count > 0) std::memcpy(values.data(), from, values.size() * sizeof(float));
  return values;
}

std::int64_t Reader::count(const char* name) { return integer(name, 0, left() / kNumber); }

const std::uint8_t* Reader::planes(const char* name, std::int64_t count, int bits) {
  if (count / 8 > left()) fail("the bytes end within '" + std::string(name) + "'");  // or the next line overflows
  std::int64_t bytes = 0;
  for (const int width : kPlanes) bytes += (bits & width) != 0 ? plane_bytes(count, width) : 0;
  return array(name, bytes, 1);
}

Weight Reader::weight() {
  Weight w{};
  w.rows = integer("rows", 1, kMost);
  w.cols = integer("columns", 1, kMost);
  const std::int64_t group_size = integer("columns of a group", 0, kMost);
  w.group_size = group_size == 0 ? w.cols : std::min(group_size, w.cols);
  w.bits = static_cast<int>(integer("bits", 2, 8));
  w.symmetric = flag("symmetric");
  w.scale_per_row = flag("a scale for each row");
  w.scale_type = static_cast<ScaleType>(integer("type of the scales", 0, 2));
  w.codes = planes("codes", w.rows * w.cols, w.bits);
  w.scale = array("scales", w.scales(), scale_bytes(w.scale_type));
  w.zero_point = w.symmetric ? nullptr : planes("zero points", w.scales(), w.bits);
  return w;
}

std::vector<Weight> Reader::weights() {
  const std::int64_t number = count("number of weights");
  std::vector<Weight> result;
  for (std::int64_t i = 0; i < number; ++i) {
    enter("weight " + std::to_string(i));
    result.push_back(weight());
  }
  return result;
}

void Reader::end() const {
  if (left() != 0) fail(std::to_string(left()) + " bytes follow the end");
}

}  // namespace eqnet::serialized
