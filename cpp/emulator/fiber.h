#pragma once

#include <cstddef>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace eqnet::emulator {

// A function with a stack of its own, which runs until it suspends itself and goes on when it is resumed.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // What the next resume() begins. A fiber that is still suspended in something else forgets it: destructors of what is
  // on its stack do not run. `function` does not return; it suspends for the last time.
  void start(void (*function)());
  void resume();   // from outside: returns when the fiber suspends
  void suspend();  // from inside: returns when the fiber is resumed

 private:
  unsigned char* pages_ = nullptr;  // the first of which cannot be accessed
  unsigned char* bottom_ = nullptr;
  void (*function_)() = nullptr;
#ifdef __x86_64__
  void* inside_ = nullptr;  // where the stack was when the fiber suspended
  void* outside_ = nullptr;
#else
  ucontext_t inside_, outside_;
#endif
  // What AddressSanitizer knows of the stack outside.
  void* outside_fake_ = nullptr;
  void* inside_fake_ = nullptr;
  const void* outside_bottom_ = nullptr;
  std::size_t outside_bytes_ = 0;

  static void enter();
};

}  // namespace eqnet::emulator
