# Sources of the kernels and how they are compiled, for the extension and for tests/cpp.
#
# Sets KERNEL_SOURCES, VECTOR_SOURCES (those of vectors.txt for this processor) with the options of each, and
# KERNEL_OPTIONS for all.

set(KERNEL_SOURCES
  conv/conv.cpp
  conv/dense.cpp
  conv/depthwise.cpp
  conv/portable.cpp
  crc32.cpp
  decoder/attention.cpp
  decoder/decoder.cpp
  decoder/key_values.cpp
  decoder/vectors.cpp
  embedding.cpp
  fake_quantize.cpp
  isa.cpp
  linear/activations.cpp
  linear/linear.cpp
  linear/panels.cpp
  linear/product.cpp
  linear/tables.cpp
  program/operation.cpp
  program/operations.cpp
  program/plan.cpp
  program/pool.cpp
  program/program.cpp
  range_search.cpp
  roofline/roofline.cpp
  serialized/layers.cpp
  serialized/program.cpp
  serialized/reader.cpp
  threads.cpp
  weight_codes/quadratic_forms.cpp
  weight_codes/ranges.cpp
  weight_codes/rounding.cpp
  weight_codes/weight_codes.cpp
)
list(TRANSFORM KERNEL_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/cpu/)

set(VECTOR_SOURCES)
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/vectors.txt lines REGEX "^[^#]")
string(REGEX REPLACE "AMD64" "x86_64" processor "${CMAKE_SYSTEM_PROCESSOR}")
string(REGEX REPLACE "arm64" "aarch64" processor "${processor}")
foreach(line ${lines})
  separate_arguments(words UNIX_COMMAND "${line}")
  if(line MATCHES "^[^ ]")  # a processor and options
    list(GET words 0 wanted)
    list(REMOVE_AT words 0)
    set(options ${words})
  elseif(wanted STREQUAL "any" OR wanted STREQUAL processor)
    list(TRANSFORM words PREPEND ${CMAKE_CURRENT_LIST_DIR}/cpu/)
    set_source_files_properties(${words} PROPERTIES COMPILE_OPTIONS "${options}")
    list(APPEND VECTOR_SOURCES ${words})
  endif()
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/vectors.txt)

# Contraction would make results depend on whether the processor has fused multiply-add.
set(KERNEL_OPTIONS -fno-math-errno -fno-trapping-math -ffp-contract=off -Wall -Wextra)
