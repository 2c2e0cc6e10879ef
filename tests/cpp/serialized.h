// Serialized models, written by hand, and what is said of those that cannot be read.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "eqnet/crc32.h"
#include "stored.h"

namespace check {

class Writer {
 public:
  Writer& add(std::initializer_list<int> numbers) {
    for (const int number : numbers) raw(&number, 4);
    return *this;
  }
  Writer& real(std::initializer_list<float> numbers) {
    for (const float number : numbers) raw(&number, 4);
    return *this;
  }
  Writer& array(const void* data, std::int64_t bytes) {
    raw(data, static_cast<std::size_t>(bytes));
    while (body_.size() % 4 != 0) body_.push_back(0);
    return *this;
  }
  Writer& weight(const Weight& w) {
    add({static_cast<int>(w.shape.rows), static_cast<int>(w.shape.cols), static_cast<int>(w.shape.group_size),
         w.shape.bits, w.symmetric, w.per_row, static_cast<int>(w.type)});
    array(w.codes.data(), w.codes.size());
    array(w.scales.data(), w.scales.size());
    return w.symmetric ? *this : array(w.zeros.data(), w.zeros.size());
  }

  const std::vector<std::uint8_t>& body() const { return body_; }

 private:
  void raw(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const std::uint8_t*>(data);
    body_.insert(body_.end(), from, from + bytes);
  }
  std::vector<std::uint8_t> body_;
};

inline std::vector<std::uint8_t> file(const std::vector<std::uint8_t>& body, std::uint32_t version = 1) {
  std::vector<std::uint8_t> bytes{'e', 'q', 'n', 'e', 't', 'b', 'i', 'n'};
  const std::uint32_t checksum = eqnet::crc32_portable(body.data(), static_cast<std::int64_t>(body.size()));
  for (const std::uint32_t number : {version, checksum}) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<std::uint8_t>(number >> shift));
  }
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

// The message of what is thrown, or nothing.
template <class Body>
std::string message(const Body& body) {
  try {
    body();
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

}  // namespace check
