// Checks and named tests for small programs: TEST(name) { EXPECT(a == b, "with %d", n); }
#pragma once

#include <atomic>
#include <cstdio>
#include <cstring>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline std::atomic<int> failures{0};

constexpr int kShown = 20;  // failures; more of them say nothing new

// Runs the tests whose names begin with one of the arguments, or all. Returns the exit status.
inline int run(int argc, char** argv) {
  for (const Test& test : tests()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted |= std::strncmp(test.name, argv[i], std::strlen(argv[i])) == 0;
    if (!wanted) continue;
    const int before = failures;
    test.run();
    std::printf("%s %s\n", failures == before ? "ok    " : "FAILED", test.name);
    std::fflush(stdout);
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                                                         \
  static void name();                                                                      \
  static const bool name##_added = (check::tests().push_back({#name, name}), true);        \
  static void name()

#define EXPECT(condition, ...)                                                             \
  do {                                                                                     \
    if (!(condition) && ++check::failures <= check::kShown) {                              \
      std::printf("%s:%d: not %s: ", __FILE__, __LINE__, #condition);                      \
      std::printf(__VA_ARGS__);                                                            \
      std::printf("\n");                                                                   \
    }                                                                                      \
  } while (false)
