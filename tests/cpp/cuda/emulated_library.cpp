// The library as eqnet/cuda.h has it, for memory of the CPU: what is given is copied to that of the emulator, and
// results are copied back. What the emulator finds is an error. One call runs at a time.

#include "eqnet/cuda.h"

#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "cuda/arguments.h"
#include "cuda/current.h"
#include "cuda/errors.h"
#include "emulator/memory.h"

namespace {

using namespace eqnet::cuda;

std::int64_t element_bytes(int type) { return type == EQNET_FLOAT32 ? 4 : 2; }

// Bytes of codes of so many bits, in planes.
std::int64_t plane_bytes(std::int64_t count, int bits) {
  std::int64_t bytes = 0;
  for (const int width : {8, 4, 2, 1}) {
    if ((bits & width) != 0) bytes += (count * width + 7) / 8;
  }
  return bytes;
}

// An operand in the memory of the emulator, or null.
template <typename T>
class Input {
 public:
  Input(const char* name, const void* from, std::int64_t bytes) {
    if (from == nullptr) return;
    const auto* first = static_cast<const unsigned char*>(from);
    buffer_.emplace(name, std::vector<unsigned char>(first, first + bytes));
  }
  T* address() const { return buffer_ ? reinterpret_cast<T*>(buffer_->address()) : nullptr; }

 private:
  std::optional<eqnet::emulator::Buffer<const unsigned char>> buffer_;
};

// A result, which all has to be written.
class Output {
 public:
  Output(const char* name, void* to, std::int64_t bytes)
      : name_(name), to_(to), buffer_(name, static_cast<std::size_t>(bytes)) {}
  void* address() const { return buffer_.address(); }
  void copy_back() const {
    const std::size_t missing = buffer_.unwritten_bytes();
    if (missing != 0) throw Failed(std::string(name_) + ": " + std::to_string(missing) + " bytes were not written");
    const std::vector<unsigned char> bytes = buffer_.values();
    if (!bytes.empty()) std::memcpy(to_, bytes.data(), bytes.size());
  }

 private:
  const char* name_;
  void* to_;
  eqnet::emulator::Buffer<unsigned char> buffer_;
};

// A weight whose memory is copied.
class Weight {
 public:
  explicit Weight(const eqnet_cuda_weight& given)
      : codes_("codes", given.codes, shape_of(given).code_bytes()),
        scales_("scales", given.scales, shape_of(given).scale_count() * element_bytes(given.scale_type)),
        zeros_("zeros", given.zeros, shape_of(given).scale_count()),
        copied(given) {
    copied.codes = codes_.address();
    copied.scales = scales_.address();
    copied.zeros = zeros_.address();
  }

 private:
  Input<const void> codes_, scales_, zeros_;

 public:
  eqnet_cuda_weight copied;
};

// Calls `call` with a stream, alone; throws what the emulator finds.
template <typename Call>
void emulate(Call call) {
  Recorder recorder;
  call(&recorder);
  for (const eqnet::emulator::Report& report : recorder.reports) {
    if (!report.findings.empty()) throw Failed(report.text());
  }
}

template <typename Call>
int emulated(const char* function, Call call) {
  static std::mutex one;
  const std::lock_guard<std::mutex> lock(one);
  return guarded(function, call);
}

}  // namespace

int32_t eqnet_cuda_version(void) { return EQNET_CUDA_VERSION; }

const char* eqnet_cuda_message(void) { return message(); }

int eqnet_cuda_linear_needs(const eqnet_cuda_weight* weight, int32_t element, int64_t tokens, int64_t* bytes,
                            int64_t* counters) {
  return guarded(__func__, [&] {
    const LinearNeeds needs = linear_needs(weight, element, tokens, current_device());
    *bytes = needs.bytes;
    *counters = needs.counters;
  });
}

int eqnet_cuda_linear(const eqnet_cuda_weight* weight, const void* x, int32_t element, int64_t tokens,
                      const float* bias, int32_t activation, void* y, void* memory, uint32_t* counters, void*) {
  return emulated(__func__, [&] {
    if (!check({weight, x, element, tokens, bias, activation, y, memory, counters}, current_device())) return;
    const LinearNeeds needs = linear_needs(weight, element, tokens, current_device());
    const Weight there(*weight);
    const Input<const void> x_there("x", x, tokens * weight->cols * 2);
    const Input<const float> bias_there("bias", bias, weight->rows * 4);
    const Output y_there("y", y, tokens * weight->rows * 2);
    const eqnet::emulator::Buffer<unsigned char> memory_there("memory", static_cast<std::size_t>(needs.bytes));
    const eqnet::emulator::Buffer<std::uint32_t> counters_there(
        "counters", std::vector<std::uint32_t>(counters, counters + needs.counters));
    emulate([&](Stream stream) {
      run({&there.copied, x_there.address(), element, tokens, bias_there.address(), activation, y_there.address(),
           memory_there.address(), counters_there.address()},
          current_device(), stream);
    });
    y_there.copy_back();
    const std::vector<std::uint32_t> counted = counters_there.values();
    if (!counted.empty()) std::memcpy(counters, counted.data(), counted.size() * sizeof(counted[0]));
  });
}

int eqnet_cuda_dequantize(const eqnet_cuda_weight* weight, void* out, int32_t element, void*) {
  return emulated(__func__, [&] {
    if (!check(DequantizeArguments{weight, out, element})) return;
    const Weight there(*weight);
    const Output out_there("out", out, weight->rows * weight->cols * element_bytes(element));
    emulate([&](Stream stream) { run(DequantizeArguments{&there.copied, out_there.address(), element}, stream); });
    out_there.copy_back();
  });
}

int eqnet_cuda_dequantize_glm(const void* codes, const void* scale, int32_t scale_type, int64_t rows, int64_t cols,
                              int32_t bits, void* out, int32_t element, void*) {
  return emulated(__func__, [&] {
    if (!check(GlmArguments{codes, scale, scale_type, rows, cols, bits, out, element})) return;
    const Input<const void> codes_there("codes", codes, rows * cols * bits / 8);
    const Input<const void> scale_there("scale", scale, rows * element_bytes(scale_type));
    const Output out_there("out", out, rows * cols * element_bytes(element));
    emulate([&](Stream stream) {
      run(GlmArguments{codes_there.address(), scale_there.address(), scale_type, rows, cols, bits,
                       out_there.address(), element},
          stream);
    });
    out_there.copy_back();
  });
}

int eqnet_cuda_embedding(const eqnet_cuda_table* table, const int64_t* indices, int64_t count, float* out, void*) {
  return emulated(__func__, [&] {
    if (!check(EmbeddingArguments{table, indices, count, out})) return;
    const std::int64_t groups = (table->cols + table->group_size - 1) / table->group_size;
    const std::int64_t scales = (table->scale_per_row != 0 ? table->rows : 1) * groups;
    const Input<const void> codes_there("codes", table->codes, plane_bytes(table->rows * table->cols, table->bits));
    const Input<const void> scale_there("scale", table->scale, scales * element_bytes(table->scale_type));
    const Input<const void> zeros_there("zero points", table->zero_point, plane_bytes(scales, table->bits));
    const Input<const std::int64_t> indices_there("indices", indices, count * 8);
    const Output out_there("out", out, count * table->cols * 4);
    eqnet_cuda_table there = *table;
    there.codes = codes_there.address();
    there.scale = scale_there.address();
    there.zero_point = zeros_there.address();
    emulate([&](Stream stream) {
      run(EmbeddingArguments{&there, indices_there.address(), count, static_cast<float*>(out_there.address())}, stream);
    });
    out_there.copy_back();
  });
}
