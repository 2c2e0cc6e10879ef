// Weights as matrices: every element is the product in float64, rounded once.

#include "cases.h"
#include "cuda/dequantize.h"

namespace {

using namespace eqnet::cuda;

template <typename T>
T rounded(double x) {
  if constexpr (sizeof(T) == 4) {
    return static_cast<float>(x);
  } else {
    return cases::narrow<T>(x);
  }
}
template <typename T>
double value_of(T x) {
  if constexpr (sizeof(T) == 4) {
    return static_cast<double>(x);
  } else {
    return static_cast<double>(cases::widen(x));
  }
}
template <typename T>
bool same(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

// A scale in float32 makes the product one that float32 rounds, and what is rounded to 16 bits after that is off by
// that much more.
constexpr double kTwiceRounded = 0x1p-24;
constexpr double kLeastHalf = 0x1p-24;  // of which halves near 0 are multiples

template <typename T>
bool right(double value, T got, int scale_type) {
  if constexpr (sizeof(T) == 2) {
    if (scale_type == EQNET_FLOAT32) {
      return std::fabs(value_of(got) - value) <=
             (cases::kUnit<T> + kTwiceRounded) * std::fabs(value) + kLeastHalf / 2;
    }
  }
  return same(got, rounded<T>(value));
}

// Whether nothing but what has to be is read and written, at every place: rows of whole sectors.
template <typename T>
void dequantizes(const cases::Format& format, std::int64_t rows, std::int64_t cols, bool whole_sectors = false) {
  const cases::Weight weight(format, rows, cols);
  const cases::Buffer<T> out("out", static_cast<std::size_t>(rows * cols));
  Recorder recorder;
  dequantize(weight.given(), out.address(), &recorder);
  const std::string what = "dequantize " + format.text();
  cases::expect_clean(what.c_str(), recorder.reports);
  EXPECT(out.unwritten_bytes() == 0, "%s", what.c_str());
  const eqnet::emulator::Traffic& traffic = recorder.reports[0].traffic;
  EXPECT(traffic.bank_conflicts == 0, "%s: %lld", what.c_str(), static_cast<long long>(traffic.bank_conflicts));
  if (whole_sectors) {
    // Lanes read their scales in float32 in two halves, so that each of the two reads asks for all of their sectors.
    EXPECT(traffic.uncoalesced() == 0 || format.scale_type == EQNET_FLOAT32, "%s: %lld", what.c_str(),
           static_cast<long long>(traffic.uncoalesced()));
    EXPECT(out.write_bytes() == static_cast<std::int64_t>(sizeof(T)) * rows * cols, "%s: %lld", what.c_str(),
           static_cast<long long>(out.write_bytes()));
  }
  const std::vector<T> values = out.values();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = 0; col < cols; ++col) {
      const T got = values[static_cast<std::size_t>(row * cols + col)];
      EXPECT(right(weight.value(row, col), got, format.scale_type), "%s [%lld, %lld]: (%lld, %lld) is %g, not %g",
             what.c_str(), static_cast<long long>(rows), static_cast<long long>(cols), static_cast<long long>(row),
             static_cast<long long>(col), value_of(got), weight.value(row, col));
    }
  }
}

template <typename T>
void dequantizes_all() {
  for (const cases::Format& format : cases::formats()) {
    for (int type = 0; type < 3; ++type) {
      dequantizes<T>({format.bits, format.group_size, format.symmetric, type}, 17, 136);
    }
    dequantizes<T>(format, 1, 1);
    dequantizes<T>(format, 67, 75);
    const bool padding_between = format.group_size % 16 != 0;
    dequantizes<T>(format, 80, 192, /*whole_sectors=*/!padding_between);
  }
}

TEST(dequantize_half) { dequantizes_all<half>(); }
TEST(dequantize_bfloat16) { dequantizes_all<__nv_bfloat16>(); }
TEST(dequantize_float) { dequantizes_all<float>(); }

// Codes as GLM-130B's kernels read them: signed, the even column in the high half of a byte.
template <typename T>
void dequantizes_glm(int bits, std::int64_t rows, std::int64_t cols, int scale_type, bool whole_sectors) {
  std::mt19937 random(1);
  std::vector<unsigned char> stored(static_cast<std::size_t>(rows * cols * bits / 8));
  for (unsigned char& byte : stored) byte = static_cast<unsigned char>(random());
  std::vector<double> scales;
  std::vector<unsigned char> scale_bytes;
  std::uniform_real_distribution<float> draw(0.001f, 0.1f);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::uint32_t scale = cases::scale_bits(draw(random), scale_type);
    scales.push_back(static_cast<double>(cases::scale_value(scale, scale_type)));
    for (int i = 0; i < (scale_type == EQNET_FLOAT32 ? 4 : 2); ++i) {
      scale_bytes.push_back(static_cast<unsigned char>(scale >> 8 * i));
    }
  }
  const cases::Buffer<const unsigned char> codes("codes", stored), scale("scale", scale_bytes);
  const cases::Buffer<T> out("out", static_cast<std::size_t>(rows * cols));
  Recorder recorder;
  dequantize_glm(codes.address(), scale.address(), scale_type, rows, cols, bits, out.address(), &recorder);
  cases::expect_clean("dequantize_glm", recorder.reports);
  EXPECT(out.unwritten_bytes() == 0, "%d bits", bits);
  if (whole_sectors) {
    EXPECT(recorder.reports[0].traffic.uncoalesced() == 0, "%d bits: %lld", bits,
           static_cast<long long>(recorder.reports[0].traffic.uncoalesced()));
  }
  const std::vector<T> values = out.values();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = 0; col < cols; ++col) {
      int code;
      if (bits == 8) {
        code = stored[static_cast<std::size_t>(row * cols + col)];
        if (code > 127) code -= 256;
      } else {
        const int byte = stored[static_cast<std::size_t>((row * cols + col) / 2)];
        code = col % 2 == 0 ? byte / 16 : byte % 16;
        if (code > 7) code -= 16;
      }
      const T got = values[static_cast<std::size_t>(row * cols + col)];
      const double value = code * scales[static_cast<std::size_t>(row)];
      EXPECT(right(value, got, scale_type), "%d bits [%lld, %lld]: (%lld, %lld) is %g, not %g", bits,
             static_cast<long long>(rows), static_cast<long long>(cols), static_cast<long long>(row),
             static_cast<long long>(col), value_of(got), value);
    }
  }
}

template <typename T>
void dequantizes_glm_all() {
  for (const int bits : {4, 8}) {
    for (int scale_type = 0; scale_type < 3; ++scale_type) {
      dequantizes_glm<T>(bits, 3, 256, scale_type, true);
      dequantizes_glm<T>(bits, 5, 2056, scale_type, false);
      dequantizes_glm<T>(bits, 5, 70, scale_type, false);
      dequantizes_glm<T>(bits, 1, 2, scale_type, false);
    }
  }
  dequantizes_glm<T>(8, 3, 33, EQNET_FLOAT16, false);
}

TEST(dequantize_glm_half) { dequantizes_glm_all<half>(); }
TEST(dequantize_glm_bfloat16) { dequantizes_glm_all<__nv_bfloat16>(); }
TEST(dequantize_glm_float) { dequantizes_glm_all<float>(); }

// More rows than a grid has blocks along y.
TEST(dequantize_glm_rows) { dequantizes_glm<half>(4, 65537, 2, EQNET_FLOAT16, false); }

// The example of eqnet/packed/glm.py: bytes (c0 & 15) << 4 | (c1 & 15).
TEST(dequantize_glm_literal) {
  const cases::Buffer<const unsigned char> codes("codes", std::vector<unsigned char>{0x7f, 0x80, 0x1e});
  const cases::Buffer<const float> scale("scale", std::vector<float>{0.5f});
  const cases::Buffer<float> out("out", 6);
  Recorder recorder;
  dequantize_glm(codes.address(), scale.address(), EQNET_FLOAT32, 1, 6, 4, out.address(), &recorder);
  const float expected[] = {3.5f, -0.5f, -4.0f, 0.0f, 0.5f, -1.0f};
  const std::vector<float> values = out.values();
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT(values[i] == expected[i], "%zu: %g", i, static_cast<double>(values[i]));
  }
}

}  // namespace
