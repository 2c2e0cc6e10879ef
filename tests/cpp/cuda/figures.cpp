// What a layer launches on a GPU, counted by the emulator, as JSON: benchmarks/cuda_static.py reads it.
//
//     cuda_figures PROCESSORS CAPABILITY BLOCK_BYTES PROCESSOR_BYTES ROWS COLS BITS GROUP_SIZE TOKENS
//
// with the shared memory of a block and of a multiprocessor, groups of 0 columns for one scale a channel, and 0 tokens
// for the dequantized weight. Activations and outputs are half.

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>

#include "called.h"
#include "cuda/current.h"

namespace {

using eqnet::emulator::Launch;

std::string name_of(void (*kernel)()) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(kernel), &info) == 0 || info.dli_sname == nullptr) return "?";
  int status;
  char* readable = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  const std::string name = status == 0 ? readable : info.dli_sname;
  std::free(readable);
  return name;
}

int fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  return 1;
}

int figures(const eqnet::cuda::Device& device, std::int64_t rows, std::int64_t cols, int bits, std::int64_t group_size,
            std::int64_t tokens) {
  eqnet::cuda::emulated_device() = device;
  const cases::Weight weight({bits, group_size, true}, rows, cols);
  eqnet::cuda::Recorder recorder;
  std::int64_t minimum = weight.bytes();
  if (tokens == 0) {
    const cases::Buffer<half> out("out", static_cast<std::size_t>(rows * cols));
    minimum += rows * cols * 2;
    const eqnet_cuda_weight given = weight.given();
    if (eqnet_cuda_dequantize(&given, out.address(), EQNET_FLOAT16, &recorder) != 0) return fail(eqnet_cuda_message());
    cases::expect_clean("dequantize", recorder.reports);
  } else {
    minimum += tokens * (rows + cols) * 2;
    recorder = cases::linear(weight, cases::draw<half>(tokens * cols, 2), tokens, {}, EQNET_NO_ACTIVATION).launched;
  }
  if (check::failures > 0) return 1;  // it is told what
  std::printf("{\"minimum_bytes\": %lld, \"flops\": %lld, \"launches\": [", static_cast<long long>(minimum),
              static_cast<long long>(2 * rows * cols * tokens));
  for (std::size_t i = 0; i < recorder.reports.size(); ++i) {
    const eqnet::emulator::Report& report = recorder.reports[i];
    const Launch& launch = recorder.launches[i];
    std::printf(
        "%s{\"kernel\": \"%s\", \"blocks\": %lld, \"threads\": %u, \"dynamic_bytes\": %zu, \"read_bytes\": %lld, "
        "\"written_bytes\": %lld, \"matrix_flops\": %lld, \"bank_conflicts\": %lld}",
        i == 0 ? "" : ", ", name_of(recorder.kernels[i]).c_str(),
        static_cast<long long>(launch.grid.x) * launch.grid.y * launch.grid.z, launch.block.x, launch.dynamic_bytes,
        static_cast<long long>(report.memory_read_bytes), static_cast<long long>(report.memory_written_bytes),
        static_cast<long long>(report.matrix_flops), static_cast<long long>(report.traffic.bank_conflicts));
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 10) return fail("expected nine numbers: see figures.cpp");
  std::int64_t n[9];
  for (int i = 0; i < 9; ++i) n[i] = std::atoll(argv[i + 1]);
  const eqnet::cuda::Device device{static_cast<int>(n[0]), static_cast<int>(n[1]), static_cast<int>(n[2]),
                                   static_cast<int>(n[3])};
  return figures(device, n[4], n[5], static_cast<int>(n[6]), n[7], n[8]);
}
