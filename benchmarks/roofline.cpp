// What a processor can do at most: bytes read from memory, and sums of products of bytes, in a second.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Loads and accumulators in flight; enough to hide the latency of either.
constexpr int kInFlight = 12;

using Line = std::uint64_t __attribute__((vector_size(64)));

volatile std::uint64_t sink;

template <class Body>
void on_threads(int threads, const Body& body) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(body, i);
  body(0);
  for (auto& other : others) other.join();
}

void read(const Line* first, const Line* last) {
  constexpr int kLines = 8;
  Line sums[kLines] = {};
  for (; first + kLines <= last; first += kLines)
    for (int i = 0; i < kLines; ++i) sums[i] ^= first[i];
  Line sum = {};
  for (const Line& part : sums) sum ^= part;
  sink = sum[0];
}

#if defined(__AVX512VNNI__)
using Sums = __m512i;
Sums dot(Sums sums, Sums a) { return _mm512_dpbusd_epi32(sums, a, a); }
Sums filled(int value) { return _mm512_set1_epi32(value); }
#elif defined(__AVX2__)
using Sums = __m256i;
Sums dot(Sums sums, Sums a) {
  const Sums pairs = _mm256_maddubs_epi16(a, a);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
Sums filled(int value) { return _mm256_set1_epi32(value); }
#endif

}  // namespace

extern "C" {

// Memory in huge pages where the system has them, so that misses of the TLB do not count; null if there is none.
void* roofline_buffer(std::size_t bytes) {
  bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* result = std::aligned_alloc(kHugePage, bytes);
  if (result == nullptr) return nullptr;
#if defined(__linux__)
  madvise(result, bytes, MADV_HUGEPAGE);
#endif
  std::memset(result, 1, bytes);
  return result;
}

// Reads `bytes` of `buffer`, `repeats` times, each thread a stretch of its own.
void roofline_read(const void* buffer, std::size_t bytes, int repeats, int threads) {
  const auto* lines = static_cast<const Line*>(buffer);
  const std::size_t count = bytes / sizeof(Line);
  on_threads(threads, [=](int i) {
    for (int r = 0; r < repeats; ++r) read(lines + count * i / threads, lines + count * (i + 1) / threads);
  });
}

// Multiplies and adds bytes in registers; returns how many operations that was, 0 where it is not written.
double roofline_int8(std::int64_t repeats, int threads) {
#if defined(__AVX2__)
  on_threads(threads, [=](int) {
    Sums sums[kInFlight];
    for (int i = 0; i < kInFlight; ++i) sums[i] = filled(i);
    const Sums a = filled(0x01010101);
    for (std::int64_t r = 0; r < repeats; ++r)
      for (int i = 0; i < kInFlight; ++i) sums[i] = dot(sums[i], a);
    std::uint64_t total = 0;
    for (const Sums& part : sums) {
      std::uint64_t first;
      std::memcpy(&first, &part, sizeof first);
      total += first;
    }
    sink = total;
  });
  return 2.0 * sizeof(Sums) * kInFlight * static_cast<double>(repeats) * threads;
#else
  (void)repeats, (void)threads;
  return 0;
#endif
}

}  // extern "C"
