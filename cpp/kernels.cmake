# Sources of the kernels and how they are compiled, for the extension and for tests/cpp.
#
# Sets KERNEL_SOURCES, VECTOR_SOURCES (kernels of one instruction set each; which of them run is decided when they are
# first called) with the options of each, and KERNEL_OPTIONS for all.

set(KERNEL_SOURCES
  conv/conv.cpp
  conv/dense.cpp
  conv/depthwise.cpp
  conv/portable.cpp
  crc32.cpp
  embedding.cpp
  fake_quantize.cpp
  isa.cpp
  linear/activations.cpp
  linear/linear.cpp
  linear/panels.cpp
  linear/tables.cpp
  program/operation.cpp
  program/operations.cpp
  program/plan.cpp
  program/pool.cpp
  program/program.cpp
  range_search.cpp
  roofline/roofline.cpp
  threads.cpp
)
list(TRANSFORM KERNEL_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/cpu/)

function(add_vector_sources options)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/cpu/)
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${options}")
  set(VECTOR_SOURCES ${VECTOR_SOURCES} ${ARGN} PARENT_SCOPE)
endfunction()

set(VECTOR_SOURCES)
add_vector_sources("" linear/portable.cpp roofline/portable.cpp)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(AVX2_OPTIONS -mavx2 -mfma -mf16c -Wno-maybe-uninitialized)
  # GCC 12 warns about the undefined operands within its own intrinsics.
  set(AVX512_OPTIONS ${AVX2_OPTIONS} -mavx512f -mavx512bw -mavx512vl -mavx512vbmi -mavx512vnni -Wno-uninitialized)
  add_vector_sources("${AVX2_OPTIONS}" conv/dense_avx2.cpp conv/depthwise_avx2.cpp conv/finish_avx2.cpp
    linear/avx2.cpp roofline/avx2.cpp)
  add_vector_sources("${AVX512_OPTIONS}" conv/dense_avx512.cpp conv/depthwise_avx512.cpp conv/finish_avx512.cpp
    linear/avx512.cpp roofline/avx512.cpp)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  add_vector_sources("-march=armv8.2-a+dotprod" conv/neon.cpp linear/neon.cpp roofline/neon.cpp)
endif()

# Contraction would make results depend on whether the processor has fused multiply-add.
set(KERNEL_OPTIONS -fno-math-errno -fno-trapping-math -ffp-contract=off -Wall -Wextra)
