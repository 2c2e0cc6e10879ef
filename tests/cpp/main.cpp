#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>

#include "check.h"
#include "eqnet/isa.h"
#include "guarded.h"

namespace check {
namespace {

constexpr unsigned char kPattern = 0xa5;
constexpr std::size_t kBefore = 128;  // bytes with the pattern in front of the memory, after its header
constexpr int kSkipped = 77;          // exit status that CTest is told of

struct Header {
  unsigned char* pages;
  std::size_t mapped;  // bytes of all pages, the last of which cannot be accessed
  std::size_t bytes;   // that were asked for
};

bool has_pattern(const unsigned char* from, const unsigned char* to) {
  for (; from < to; ++from) {
    if (*from != kPattern) return false;
  }
  return true;
}

}  // namespace

void* guarded_allocate(std::size_t bytes, std::size_t alignment) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t front = sizeof(Header) + kBefore + alignment;
  const std::size_t mapped = (front + bytes + page - 1) / page * page + page;
  void* pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<unsigned char*>(pages);
  unsigned char* end = start + mapped - page;
  if (mprotect(end, page, PROT_NONE) != 0) throw std::bad_alloc();
  const auto place = reinterpret_cast<std::uintptr_t>(end - bytes) / alignment * alignment;
  auto* memory = reinterpret_cast<unsigned char*>(place);
  std::memset(memory - kBefore, kPattern, static_cast<std::size_t>(end - memory) + kBefore);
  const Header header{start, mapped, bytes};
  std::memcpy(memory - kBefore - sizeof(Header), &header, sizeof(Header));
  return memory;
}

void guarded_release(void* memory) {
  if (memory == nullptr) return;
  const auto* start = static_cast<const unsigned char*>(memory);
  Header header;
  std::memcpy(&header, start - kBefore - sizeof(Header), sizeof(Header));
  if (!has_pattern(start - kBefore, start)) EXPECT(false, "something was written in front of %zu bytes", header.bytes);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (!has_pattern(start + header.bytes, header.pages + header.mapped - page)) {
    EXPECT(false, "something was written behind %zu bytes", header.bytes);
  }
  munmap(header.pages, header.mapped);
}

}  // namespace check

// What kernels keep from call to call is guarded too: it is all that asks for memory with an alignment.
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return check::guarded_allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory, std::align_val_t) noexcept { check::guarded_release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { check::guarded_release(memory); }

int main(int argc, char** argv) {
  try {
    std::printf("instruction set: %s\n", eqnet::isa_name(eqnet::isa()));
  } catch (const std::exception& error) {
    std::printf("skipped: %s\n", error.what());
    return check::kSkipped;
  }
  return check::run(argc, argv);
}
