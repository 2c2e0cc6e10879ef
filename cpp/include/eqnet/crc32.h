// CRC-32 as zlib and PNG have it.
#pragma once

#include <cstdint>

namespace eqnet {

// Of `size` bytes: polynomial 0x04c11db7, bits reflected, from all ones, complemented.
std::uint32_t crc32(const std::uint8_t* data, std::int64_t size);

// The same without instructions made for it.
std::uint32_t crc32_portable(const std::uint8_t* data, std::int64_t size);

}  // namespace eqnet
