// Rows of a table that is stored in planes, against codes that are put there bit by bit.

#include <limits>

#include "cases.h"
#include "cuda/embedding.h"

namespace {

using namespace eqnet::cuda;

// As eqnet/packed/planes.py draws them.
std::vector<unsigned char> planes(const std::vector<int>& codes, int bits) {
  std::vector<unsigned char> packed;
  int done = 0;
  for (const int width : {8, 4, 2, 1}) {
    if ((bits & width) == 0) continue;
    const std::size_t first = packed.size();
    packed.resize(first + (codes.size() * static_cast<std::size_t>(width) + 7) / 8);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const std::size_t bit = i * static_cast<std::size_t>(width);
      packed[first + bit / 8] |=
          static_cast<unsigned char>((codes[i] >> done & ((1 << width) - 1)) << bit % 8);
    }
    done += width;
  }
  return packed;
}

struct Case {
  int bits;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t group_size;
  bool symmetric;
  bool scale_per_row;
  int scale_type;
};

void gathers(const Case& c, const std::vector<std::int64_t>& wanted, bool whole_sectors = false) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> code(0, (1 << c.bits) - 1);
  std::uniform_real_distribution<float> draw(0.001f, 0.1f);
  std::vector<int> codes, zeros;
  std::vector<unsigned char> scale_bytes;
  std::vector<float> scales;
  for (std::int64_t i = 0; i < c.rows * c.cols; ++i) codes.push_back(code(random));
  const std::int64_t groups = (c.cols + c.group_size - 1) / c.group_size;
  for (std::int64_t i = 0; i < (c.scale_per_row ? c.rows : 1) * groups; ++i) {
    zeros.push_back(c.symmetric ? 1 << (c.bits - 1) : code(random));
    const std::uint32_t scale = cases::scale_bits(draw(random), c.scale_type);
    scales.push_back(cases::scale_value(scale, c.scale_type));
    for (int byte = 0; byte < (c.scale_type == EQNET_FLOAT32 ? 4 : 2); ++byte) {
      scale_bytes.push_back(static_cast<unsigned char>(scale >> 8 * byte));
    }
  }
  const cases::Buffer<const unsigned char> codes_there("codes", planes(codes, c.bits)), scale("scale", scale_bytes),
      zeros_there("zero points", planes(zeros, c.bits));
  const cases::Buffer<const std::int64_t> indices("indices", wanted);
  const cases::Buffer<float> out("out", wanted.size() * static_cast<std::size_t>(c.cols));
  Recorder recorder;
  embedding({c.rows, c.cols, c.group_size, c.bits, c.scale_type, c.scale_per_row, codes_there.address(),
             scale.address(), c.symmetric ? nullptr : zeros_there.address()},
            indices.address(), static_cast<std::int64_t>(wanted.size()), out.address(), &recorder);
  cases::expect_clean("embedding", recorder.reports);
  EXPECT(out.unwritten_bytes() == 0, "%d bits", c.bits);
  if (whole_sectors) {
    EXPECT(recorder.reports[0].traffic.uncoalesced() == 0, "%d bits: %lld", c.bits,
           static_cast<long long>(recorder.reports[0].traffic.uncoalesced()));
  }
  const std::vector<float> values = out.values();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    for (std::int64_t col = 0; col < c.cols; ++col) {
      const float got = values[i * static_cast<std::size_t>(c.cols) + static_cast<std::size_t>(col)];
      if (wanted[i] < 0 || wanted[i] >= c.rows) {
        EXPECT(got != got, "row %lld is %g", static_cast<long long>(wanted[i]), static_cast<double>(got));
        continue;
      }
      const auto at = static_cast<std::size_t>((c.scale_per_row ? wanted[i] * groups : 0) + col / c.group_size);
      const int centred = codes[static_cast<std::size_t>(wanted[i] * c.cols + col)] - zeros[at];
      const float value = static_cast<float>(centred * static_cast<double>(scales[at]));  // rounded once
      EXPECT(got == value, "%d bits [%lld, %lld] groups of %lld: (%lld, %lld) is %g, not %g", c.bits,
             static_cast<long long>(c.rows), static_cast<long long>(c.cols), static_cast<long long>(c.group_size),
             static_cast<long long>(wanted[i]), static_cast<long long>(col), static_cast<double>(got),
             static_cast<double>(value));
    }
  }
}

TEST(embedding_all) {
  const std::vector<std::int64_t> wanted{2, 0, 4, 4, -1, 5, std::numeric_limits<std::int64_t>::min(), 3};
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (int scale_type = 0; scale_type < 3; ++scale_type) {
        for (const std::int64_t cols : {1, 5, 12, 33, 300}) {  // rows begin within a byte, or not
          for (const std::int64_t group_size : {3, 4, 16, 300}) {
            gathers({bits, 5, cols, std::min(group_size, cols), symmetric, true, scale_type}, wanted);
          }
          gathers({bits, 5, cols, cols, symmetric, false, scale_type}, wanted);
        }
        gathers({bits, 5, 1056, 32, symmetric, true, scale_type}, wanted);
      }
    }
  }
}

TEST(embedding_whole_sectors) { gathers({8, 2, 1024, 1024, true, true, EQNET_FLOAT16}, {1, 0}, true); }

// More rows than a grid has blocks along y.
TEST(embedding_many) { gathers({3, 5, 3, 3, false, true, EQNET_FLOAT16}, std::vector<std::int64_t>(65537, 3)); }

// 9 codes of 3 bits, 0 to 7 and 5, in planes of 2 and of 1 bits, as eqnet/packed/planes.py packs them.
TEST(embedding_literal) {
  const cases::Buffer<const unsigned char> codes("codes", std::vector<unsigned char>{0xe4, 0xe4, 0x01, 0xf0, 0x01});
  const cases::Buffer<const float> scale("scale", std::vector<float>{0.5f});
  const cases::Buffer<const std::int64_t> indices("indices", std::vector<std::int64_t>{1, 2});
  const cases::Buffer<float> out("out", 6);
  Recorder recorder;
  embedding({3, 3, 3, 3, EQNET_FLOAT32, 0, codes.address(), scale.address(), nullptr}, indices.address(), 2,
            out.address(), &recorder);
  EXPECT((out.values() == std::vector<float>{-0.5f, 0.0f, 0.5f, 1.0f, 1.5f, 0.5f}), "other values");
}

}  // namespace
