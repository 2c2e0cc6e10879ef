// Checksums of prefixes of one message at several alignments, one a line, from instructions and from tables.
//
// It stands alone, so that it can run under an emulator of another processor.
#include "eqnet/crc32.h"

#include <cstdio>
#include <vector>

int main() {
  std::vector<std::uint8_t> message(700);
  std::uint32_t state = 1;
  for (std::uint8_t& byte : message) byte = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  for (int start = 0; start < 3; ++start) {
    for (int size = 0; size + start <= 700; size += 1 + size / 16) {
      std::printf("%d %d %08x %08x\n", start, size, eqnet::crc32(message.data() + start, size),
                  eqnet::crc32_portable(message.data() + start, size));
    }
  }
}
