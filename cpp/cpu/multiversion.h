// EQNET_MULTIVERSION compiles a function once for each instruction set and lets the loader pick at start-up.
// Not under ThreadSanitizer: the loader would pick before there is a sanitizer to ask.
#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define EQNET_MULTIVERSION __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EQNET_MULTIVERSION
#endif
