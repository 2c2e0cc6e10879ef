#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef __x86_64__
// Saves the registers that a function keeps, changes stacks and restores those of the other one. swapcontext does the
// same, with two system calls for the signal mask, which make it twenty times slower.
extern "C" void eqnet_emulator_switch(void** from, void* to);
asm(R"(
.text
.globl eqnet_emulator_switch
.type eqnet_emulator_switch, @function
eqnet_emulator_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size eqnet_emulator_switch, .-eqnet_emulator_switch
)");
#endif

namespace eqnet::emulator {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;  // of address space: pages that are not touched cost nothing

Fiber* entering = nullptr;  // the fiber that resume() begins

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

void before_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* bottom,
                   [[maybe_unused]] std::size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(fake, bottom, bytes);
#endif
}

void after_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** bottom,
                  [[maybe_unused]] std::size_t* bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake, bottom, bytes);
#endif
}

}  // namespace

Fiber::Fiber() {
  const std::size_t bytes = page_bytes() + kStackBytes;
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages, page_bytes(), PROT_NONE) != 0) {
    std::perror("emulator: no stack for a thread");
    std::abort();
  }
  pages_ = static_cast<unsigned char*>(pages);
  bottom_ = pages_ + page_bytes();
}

Fiber::~Fiber() {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(bottom_, kStackBytes);  // the addresses may serve others
#endif
  munmap(pages_, page_bytes() + kStackBytes);
}

void Fiber::enter() {
  Fiber* fiber = entering;
  after_switch(nullptr, &fiber->outside_bottom_, &fiber->outside_bytes_);
  fiber->function_();
  std::abort();
}

void Fiber::start(void (*function)()) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(bottom_, kStackBytes);  // frames that were forgotten
#endif
  function_ = function;
  inside_fake_ = nullptr;
#ifdef __x86_64__
  void** top = reinterpret_cast<void**>(bottom_ + kStackBytes);
  *--top = nullptr;  // enter() finds the stack aligned as after a call
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int kept = 0; kept < 6; ++kept) *--top = nullptr;
  inside_ = top;
#else
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = bottom_;
  inside_.uc_stack.ss_size = kStackBytes;
  inside_.uc_link = nullptr;
  makecontext(&inside_, &Fiber::enter, 0);
#endif
}

void Fiber::resume() {
  entering = this;
  before_switch(&outside_fake_, bottom_, kStackBytes);
#ifdef __x86_64__
  eqnet_emulator_switch(&outside_, inside_);
#else
  swapcontext(&outside_, &inside_);
#endif
  after_switch(outside_fake_, nullptr, nullptr);
}

void Fiber::suspend() {
  before_switch(&inside_fake_, outside_bottom_, outside_bytes_);
#ifdef __x86_64__
  eqnet_emulator_switch(&inside_, outside_);
#else
  swapcontext(&inside_, &outside_);
#endif
  after_switch(inside_fake_, &outside_bottom_, &outside_bytes_);
}

}  // namespace eqnet::emulator
