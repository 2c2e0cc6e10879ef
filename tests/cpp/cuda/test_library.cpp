// The library as it is called: what is launched, what it gives, and what it says of arguments that cannot be.

#include <cmath>

#include "called.h"
#include "cuda/current.h"

namespace {

using eqnet::cuda::emulated_device;
using eqnet::cuda::Recorder;

std::string message() { return eqnet_cuda_message(); }

// A device for one test.
struct On {
  explicit On(int capability) { emulated_device().capability = capability; }
  ~On() { emulated_device().capability = 80; }
};

// Products are summed in float32, and functions of them taken there; weights may be rounded to 16 bits. All are smooth,
// with slopes up to 1.13.
template <typename T>
constexpr double kError = 4 * cases::kUnit<T>;

template <typename T>
std::vector<T> multiplies(const cases::Format& format, std::int64_t rows, std::int64_t cols, std::int64_t tokens,
                          bool with_bias, int activation) {
  const cases::Weight weight(format, rows, cols);
  const std::vector<T> values = cases::draw<T>(tokens * cols, 2);
  const std::vector<float> added = with_bias ? cases::some_bias(rows) : std::vector<float>();
  // Twice: what the first call leaves in the counters is what the second one begins with.
  const std::vector<T> got = cases::linear(weight, values, tokens, added, activation, 2).y;
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t row = 0; row < rows; ++row) {
      double sum = with_bias ? static_cast<double>(added[static_cast<std::size_t>(row)]) : 0;
      double magnitudes = std::fabs(sum);
      for (std::int64_t col = 0; col < cols; ++col) {
        const double product = weight.value(row, col) *
                               static_cast<double>(cases::widen(values[static_cast<std::size_t>(token * cols + col)]));
        sum += product;
        magnitudes += std::fabs(product);
      }
      const double value = cases::activated(sum, activation);
      const double is = static_cast<double>(cases::widen(got[static_cast<std::size_t>(token * rows + row)]));
      EXPECT(std::fabs(is - value) <= kError<T> * magnitudes, "%s, activation %d: (%lld, %lld) is %g, not %g",
             format.text().c_str(), activation, static_cast<long long>(token), static_cast<long long>(row), is, value);
    }
  }
  return got;
}

TEST(library_version) { EXPECT(eqnet_cuda_version() == EQNET_CUDA_VERSION, "%d", eqnet_cuda_version()); }

template <typename T>
void multiplies_all() {
  for (const std::int64_t tokens : {1, 8, 9, 17}) {
    for (int activation = EQNET_NO_ACTIVATION; activation <= EQNET_GELU_TANH; ++activation) {
      multiplies<T>({4, 64, true}, 70, 128, tokens, true, activation);
    }
    multiplies<T>({3, 20, false}, 33, 75, tokens, false, EQNET_NO_ACTIVATION);  // padded columns
    multiplies<T>({8, 0, false, EQNET_FLOAT32}, 5, 40, tokens, true, EQNET_SILU);
  }
}

TEST(library_linear_half) { multiplies_all<half>(); }
TEST(library_linear_bfloat16) { multiplies_all<__nv_bfloat16>(); }

struct Launched {
  std::vector<std::string> kernels;  // their names
  std::int64_t bytes;  // of memory
};

Launched launched(std::int64_t cols, std::int64_t tokens) {
  const cases::Weight weight({4, 0, true}, 64, cols);
  const auto called = cases::linear(weight, cases::draw<half>(tokens * cols, 2), tokens, {}, EQNET_NO_ACTIVATION);
  Launched found{{}, called.bytes};
  for (const eqnet::emulator::Launch& launch : called.launched.launches) found.kernels.push_back(launch.kernel);
  return found;
}

bool begins(const std::string& name, const char* with) { return name.rfind(with, 0) == 0; }

TEST(library_linear_launches) {
  for (const std::int64_t tokens : {1, 8, 9}) {
    const char* product = tokens <= 8 ? "gemv" : "gemm";
    const Launched whole = launched(128, tokens);
    EXPECT(!whole.kernels.empty() && begins(whole.kernels[0], product), "%s", whole.kernels[0].c_str());
    const Launched padded = launched(100, tokens);
    EXPECT(padded.kernels.size() == whole.kernels.size() + 1, "%zu kernels", padded.kernels.size());
    EXPECT(begins(padded.kernels[0], "spread") && begins(padded.kernels[1], product), "%s, %s",
           padded.kernels[0].c_str(), padded.kernels[1].c_str());
    EXPECT(padded.bytes == whole.bytes + tokens * 128 * 2, "%lld and %lld bytes", static_cast<long long>(padded.bytes),
           static_cast<long long>(whole.bytes));
  }
}

TEST(library_same_bits_on_oldest) {
  const cases::Format format{4, 32, false};
  const std::vector<half> ours = multiplies<half>(format, 64, 128, 3, true, EQNET_NO_ACTIVATION);
  const On old(75);
  const std::vector<half> theirs = multiplies<half>(format, 64, 128, 3, true, EQNET_NO_ACTIVATION);
  EXPECT(std::memcmp(ours.data(), theirs.data(), ours.size() * sizeof(half)) == 0, "other bits");
}

TEST(library_nothing_to_do) {
  const cases::Weight weight({4, 64, true}, 64, 64);
  eqnet_cuda_weight given = weight.given();
  std::int64_t bytes = -1, count = -1;
  EXPECT(eqnet_cuda_linear_needs(&given, EQNET_FLOAT16, 0, &bytes, &count) == 0 && bytes == 0 && count == 0,
         "%lld bytes, %lld counters", static_cast<long long>(bytes), static_cast<long long>(count));
  Recorder recorder;
  EXPECT(eqnet_cuda_linear(&given, nullptr, EQNET_FLOAT16, 0, nullptr, 0, nullptr, nullptr, nullptr, &recorder) == 0,
         "%s", eqnet_cuda_message());
  given.rows = 0;
  given.codes = given.scales = nullptr;
  EXPECT(eqnet_cuda_linear(&given, nullptr, EQNET_FLOAT16, 5, nullptr, 0, nullptr, nullptr, nullptr, &recorder) == 0,
         "%s", eqnet_cuda_message());
  EXPECT(eqnet_cuda_dequantize(&given, nullptr, EQNET_FLOAT32, &recorder) == 0, "%s", eqnet_cuda_message());
  EXPECT(eqnet_cuda_dequantize_glm(nullptr, nullptr, 0, 0, 4, 4, nullptr, 0, &recorder) == 0, "%s",
         eqnet_cuda_message());
  const eqnet_cuda_table table{5, 8, 8, 4, EQNET_FLOAT16, 1, nullptr, nullptr, nullptr};
  EXPECT(eqnet_cuda_embedding(&table, nullptr, 0, nullptr, &recorder) == 0, "%s", eqnet_cuda_message());
  EXPECT(recorder.launches.empty(), "%zu kernels", recorder.launches.size());
}

// A table without rows has none for any index.
TEST(library_embedding_of_nothing) {
  const eqnet_cuda_table table{0, 3, 3, 4, EQNET_FLOAT16, 1, nullptr, nullptr, nullptr};
  const cases::Buffer<const std::int64_t> indices("indices", std::vector<std::int64_t>{0, 1});
  const cases::Buffer<float> out("out", 6);
  Recorder recorder;
  EXPECT(eqnet_cuda_embedding(&table, indices.address(), 2, out.address(), &recorder) == 0, "%s", eqnet_cuda_message());
  cases::expect_clean("embedding", recorder.reports);
  for (const float value : out.values()) EXPECT(value != value, "%g", static_cast<double>(value));
}

// A call of eqnet_cuda_linear in which one thing is wrong.
struct Call {
  cases::Weight weight{{4, 32, false}, 64, 100};
  eqnet_cuda_weight given = weight.given();
  cases::Buffer<const half> x_there{"x", cases::draw<half>(100, 2)};
  cases::Buffer<const float> bias_there{"bias", std::vector<float>(64)};
  cases::Buffer<half> y_there{"y", 64};
  const eqnet_cuda_weight* which = &given;
  const half* x = x_there.address();
  int element = EQNET_FLOAT16;
  std::int64_t tokens = 1;
  const float* bias = bias_there.address();
  int activation = EQNET_NO_ACTIVATION;
  half* y = y_there.address();
  void* memory = nullptr;
};

template <typename Change>
void refuses(const char* words, Change change) {
  Call call;
  change(call);
  Recorder recorder;
  const int error = eqnet_cuda_linear(call.which, call.x, call.element, call.tokens, call.bias, call.activation, call.y,
                                      call.memory, nullptr, &recorder);
  EXPECT(error == EQNET_CUDA_INVALID, "%d for %s", error, words);
  EXPECT(message() == std::string("eqnet_cuda_linear: ") + words, "%s", eqnet_cuda_message());
  EXPECT(recorder.launches.empty(), "%s was launched", recorder.launches[0].kernel.c_str());
}

TEST(library_linear_refuses) {
  refuses("weight is null", [](Call& call) { call.which = nullptr; });
  refuses("weight: rows is -1; expected 0 to 2147481600", [](Call& call) { call.given.rows = -1; });
  refuses("weight: rows is 2147481601; expected 0 to 2147481600", [](Call& call) { call.given.rows = 2147481601; });
  refuses("weight: cols is 0; expected 1 to 2147481600", [](Call& call) { call.given.cols = 0; });
  refuses("weight: group_size is 0; expected 1 to 100", [](Call& call) { call.given.group_size = 0; });
  refuses("weight: group_size is 101; expected 1 to 100", [](Call& call) { call.given.group_size = 101; });
  refuses("weight: bits is 1; expected 2 to 8", [](Call& call) { call.given.bits = 1; });
  refuses("weight: bits is 9; expected 2 to 8", [](Call& call) { call.given.bits = 9; });
  refuses("weight: scale_type is 3; expected 0 (float16), 1 (bfloat16) or 2 (float32)",
          [](Call& call) { call.given.scale_type = 3; });
  refuses("weight: 200000000 cols in groups of 1 take 3200000000 with padding; expected at most 2147481600",
          [](Call& call) {
            call.given.cols = 200000000;
            call.given.group_size = 1;
          });
  refuses("weight: codes is null", [](Call& call) { call.given.codes = nullptr; });
  refuses("weight: scales is null", [](Call& call) { call.given.scales = nullptr; });
  refuses("weight: zeros lies 1 bytes past a multiple of 16; expected a multiple",
          [](Call& call) { call.given.zeros = static_cast<const char*>(call.given.zeros) + 1; });
  refuses("element is 2; expected 0 (float16) or 1 (bfloat16)", [](Call& call) { call.element = EQNET_FLOAT32; });
  refuses("tokens is -1; expected 0 to 2147481600", [](Call& call) { call.tokens = -1; });
  refuses("activation is 5; expected 0 to 4", [](Call& call) { call.activation = 5; });
  refuses("x is null", [](Call& call) { call.x = nullptr; });
  refuses("x lies 2 bytes past a multiple of 16; expected a multiple", [](Call& call) { ++call.x; });
  refuses("bias lies 4 bytes past a multiple of 16; expected a multiple", [](Call& call) { ++call.bias; });
  refuses("y is null", [](Call& call) { call.y = nullptr; });
  refuses("memory is null", [](Call&) {});
  const On old(75);
  refuses(
      "element is 1 (bfloat16), which takes a GPU of compute capability 8.0; this one has 7.5. Use float16, or "
      "multiply by the dequantized weight",
      [](Call& call) { call.element = EQNET_BFLOAT16; });
}

void expect_refused(int error, const char* words) {
  EXPECT(error == EQNET_CUDA_INVALID, "%d for %s", error, words);
  EXPECT(message() == words, "%s", eqnet_cuda_message());
}

TEST(library_refuses) {
  const cases::Weight weight({4, 32, false}, 64, 64);
  eqnet_cuda_weight given = weight.given();
  std::int64_t bytes = 0;
  expect_refused(eqnet_cuda_linear_needs(&given, EQNET_FLOAT16, 1, &bytes, nullptr),
                 "eqnet_cuda_linear_needs: bytes or counters is null");
  expect_refused(eqnet_cuda_dequantize(&given, nullptr, EQNET_FLOAT32, nullptr), "eqnet_cuda_dequantize: out is null");
  expect_refused(eqnet_cuda_dequantize(&given, nullptr, 3, nullptr),
                 "eqnet_cuda_dequantize: element is 3; expected 0 (float16), 1 (bfloat16) or 2 (float32)");

  const cases::Buffer<float> memory("memory", 64);
  float* there = memory.address();
  const auto glm = [&](std::int64_t rows, std::int64_t cols, int bits, const void* scale) {
    return eqnet_cuda_dequantize_glm(there, scale, EQNET_FLOAT16, rows, cols, bits, there, EQNET_FLOAT16, nullptr);
  };
  expect_refused(glm(1, 2, 5, there), "eqnet_cuda_dequantize_glm: bits is 5; expected 4 or 8");
  expect_refused(glm(1, 3, 4, there),
                 "eqnet_cuda_dequantize_glm: cols is 3; expected an even number, as two codes of 4 bits are a byte");
  expect_refused(glm(-2, 2, 4, there), "eqnet_cuda_dequantize_glm: rows is -2; expected 0 to 2147481600");
  expect_refused(glm(1, 2, 4, nullptr), "eqnet_cuda_dequantize_glm: scale is null");

  const cases::Buffer<std::int64_t> indices("indices", 1);
  eqnet_cuda_table table{5, 8, 8, 4, EQNET_FLOAT16, 1, there, there, nullptr};
  const auto gather = [&](std::int64_t count) {
    return eqnet_cuda_embedding(&table, indices.address(), count, there, nullptr);
  };
  expect_refused(eqnet_cuda_embedding(nullptr, indices.address(), 1, there, nullptr),
                 "eqnet_cuda_embedding: table is null");
  expect_refused(gather(-1), "eqnet_cuda_embedding: count is -1; expected 0 to 2147481600");
  table.bits = 0;
  expect_refused(gather(1), "eqnet_cuda_embedding: table: bits is 0; expected 2 to 8");
  table.bits = 4;
  table.group_size = 9;
  expect_refused(gather(1), "eqnet_cuda_embedding: table: group_size is 9; expected 1 to 8");
  table.group_size = 8;
  table.codes = nullptr;
  expect_refused(gather(1), "eqnet_cuda_embedding: table: codes is null");
}

}  // namespace
