#include "eqnet/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace eqnet {
namespace {

struct Entry {
  Isa isa;
  const char* name;
  bool (*available)();
};

bool never() { return false; }
bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vnni");
}
constexpr auto has_neon = never;
#elif defined(__aarch64__)
#if defined(__linux__)
bool has_neon() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#else
constexpr auto has_neon = always;  // every Apple processor of this architecture
#endif
constexpr auto has_avx2 = never;
constexpr auto has_avx512 = never;
#else
constexpr auto has_neon = never;
constexpr auto has_avx2 = never;
constexpr auto has_avx512 = never;
#endif

// Best first.
constexpr Entry kEntries[] = {
    {Isa::kAvx512Vnni, "avx512", has_avx512},
    {Isa::kAvx2, "avx2", has_avx2},
    {Isa::kNeon, "neon", has_neon},
    {Isa::kPortable, "portable", always},
};

Isa chosen() {
  const char* wanted = std::getenv("EQNET_CPU");
  for (const Entry& entry : kEntries) {
    if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == entry.name) {
      if (entry.available()) return entry.isa;
      if (wanted != nullptr && *wanted != '\0') {
        throw std::invalid_argument("EQNET_CPU=" + std::string(wanted) + ": this processor has no such instructions");
      }
    }
  }
  throw std::invalid_argument("EQNET_CPU=" + std::string(wanted) + ": expected portable, neon, avx2 or avx512");
}

}  // namespace

Isa isa() {
  static const Isa value = chosen();
  return value;
}

const char* isa_name(Isa value) {
  for (const Entry& entry : kEntries) {
    if (entry.isa == value) return entry.name;
  }
  return "unknown";
}

}  // namespace eqnet
