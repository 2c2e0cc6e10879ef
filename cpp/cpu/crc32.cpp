#include "eqnet/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace eqnet {
namespace {

constexpr std::uint32_t kPolynomial = 0xedb88320;  // reflected

// tables[n][b]: what a byte b does to the state n bytes later.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t state = byte;
    for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ (state & 1 ? kPolynomial : 0);
    tables[0][byte] = state;
  }
  for (std::size_t n = 1; n < 8; ++n) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[n - 1][byte];
      tables[n][byte] = before >> 8 ^ tables[0][before & 255];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint32_t by_tables(std::uint32_t state, const std::uint8_t* data, std::int64_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    std::uint64_t bytes;
    std::memcpy(&bytes, data, 8);
    bytes ^= state;
    state = 0;
    for (std::size_t i = 0; i < 8; ++i) state ^= kTables[7 - i][bytes >> (8 * i) & 255];
  }
  for (; size > 0; ++data, --size) state = state >> 8 ^ kTables[0][(state ^ *data) & 255];
  return state;
}

#if defined(__x86_64__)

bool has_instructions() { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"); }

#define EQNET_FOLDING __attribute__((target("pclmul,sse4.1")))

// 128 bits of the message, moved past those that `next` begins with: the low half times `by`'s low half, plus the high
// ones; without carries, and modulo the polynomial.
EQNET_FOLDING inline __m128i fold(__m128i sum, __m128i by, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(sum, by, 0x00);
  const __m128i high = _mm_clmulepi64_si128(sum, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

EQNET_FOLDING inline __m128i load(const std::uint8_t* data) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
}

// Reduces the message to 16 bytes with the same remainder, 64 bytes at a time.
EQNET_FOLDING std::uint32_t by_instructions(std::uint32_t state, const std::uint8_t* data, std::int64_t size) {
  if (size < 64) return by_tables(state, data, size);
  // x^(8 n + 32) and x^(8 n - 32) modulo the polynomial, reflected and shifted by one, for n of 64 and of 16 bytes.
  const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
  const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
  __m128i sums[4] = {load(data), load(data + 16), load(data + 32), load(data + 48)};
  sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128(static_cast<int>(state)));
  for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
    for (int i = 0; i < 4; ++i) sums[i] = fold(sums[i], by_64, load(data + 16 * i));
  }
  for (int i = 1; i < 4; ++i) sums[0] = fold(sums[0], by_16, sums[i]);
  for (; size >= 16; data += 16, size -= 16) sums[0] = fold(sums[0], by_16, load(data));
  std::uint8_t rest[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), sums[0]);
  return by_tables(by_tables(0, rest, 16), data, size);
}

#elif defined(__aarch64__) && defined(__linux__)

bool has_instructions() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

__attribute__((target("+crc"))) std::uint32_t by_instructions(std::uint32_t state, const std::uint8_t* data,
                                                              std::int64_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    std::uint64_t bytes;
    std::memcpy(&bytes, data, 8);
    state = __crc32d(state, bytes);
  }
  return by_tables(state, data, size);
}

#else

bool has_instructions() { return false; }

std::uint32_t by_instructions(std::uint32_t state, const std::uint8_t* data, std::int64_t size) {
  return by_tables(state, data, size);
}

#endif

}  // namespace

std::uint32_t crc32(const std::uint8_t* data, std::int64_t size) {
  return ~(has_instructions() ? by_instructions : by_tables)(0xffffffffu, data, size);
}

std::uint32_t crc32_portable(const std::uint8_t* data, std::int64_t size) { return ~by_tables(0xffffffffu, data, size); }

}  // namespace eqnet
