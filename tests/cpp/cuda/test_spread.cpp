// Activations with padding between the groups of their columns.

#include "cases.h"
#include "cuda/spread.h"

namespace {

using namespace eqnet::cuda;
using Row = std::vector<unsigned short>;

// What x: [tokens, cols] becomes, and how many bytes of it were read.
struct Spread {
  Row y;
  std::int64_t read_bytes;
  std::int64_t uncoalesced;
};

Spread spread_of(const Row& values, const eqnet::TileShape& shape, std::int64_t tokens) {
  const cases::Buffer<const unsigned short> x("x", values);
  const cases::Buffer<unsigned short> y("y", static_cast<std::size_t>(tokens * shape.padded_cols()));
  Recorder recorder;
  spread(x.address(), shape, tokens, y.address(), &recorder);
  cases::expect_clean("spread", recorder.reports);
  EXPECT(y.unwritten_bytes() == 0, "%zu", y.unwritten_bytes());
  return {y.values(), x.read_bytes(), recorder.reports[0].traffic.uncoalesced()};
}

TEST(spread_literal) {
  // Groups of 20 columns take two steps of 16; the last one has 5.
  Row x, expected;
  for (unsigned short i = 1; i <= 45; ++i) x.push_back(i);
  for (unsigned short place = 0; place < 128; ++place) {
    unsigned short value = 0;
    if (place < 20) value = static_cast<unsigned short>(place + 1);
    if (place >= 32 && place < 52) value = static_cast<unsigned short>(place - 32 + 21);
    if (place >= 64 && place < 69) value = static_cast<unsigned short>(place - 64 + 41);
    expected.push_back(value);
  }
  EXPECT(spread_of(x, {1, 45, 20, 4}, 1).y == expected, "groups of 20");
}

// Each column, group by group.
TEST(spread_all) {
  for (const std::int64_t group_size : {1, 5, 8, 16, 20, 24, 32, 48, 64, 100, 2064}) {
    for (const std::int64_t cols : {1, 7, 40, 64, 136, 2064}) {
      for (const std::int64_t tokens : {1, 3}) {
        const eqnet::TileShape shape{1, cols, std::min(group_size, cols), 4};
        Row x;
        for (std::int64_t i = 0; i < tokens * cols; ++i) x.push_back(static_cast<unsigned short>(i % 60000 + 1));
        Row expected(static_cast<std::size_t>(tokens * shape.padded_cols()));
        const std::int64_t padded_group = (shape.group_size + 15) / 16 * 16;
        for (std::int64_t token = 0; token < tokens; ++token) {
          for (std::int64_t col = 0; col < cols; ++col) {
            const std::int64_t place = col / shape.group_size * padded_group + col % shape.group_size;
            expected[static_cast<std::size_t>(token * shape.padded_cols() + place)] =
                x[static_cast<std::size_t>(token * cols + col)];
          }
        }
        EXPECT(spread_of(x, shape, tokens).y == expected, "groups of %lld, %lld columns, %lld tokens",
               static_cast<long long>(group_size), static_cast<long long>(cols), static_cast<long long>(tokens));
      }
    }
  }
}

TEST(spread_reads_once) {
  const Spread whole = spread_of(Row(16 * 4080), {1, 4080, 4080, 4}, 16);
  EXPECT(whole.read_bytes == 2 * 16 * 4080 && whole.uncoalesced == 0, "%lld bytes, %lld sectors",
         static_cast<long long>(whole.read_bytes), static_cast<long long>(whole.uncoalesced));
}

TEST(spread_many_tokens) {
  const std::int64_t tokens = 65537;  // more than a grid has blocks along y
  const eqnet::TileShape shape{1, 1, 1, 4};
  Row x;
  for (std::int64_t i = 0; i < tokens; ++i) x.push_back(static_cast<unsigned short>(i % 60000 + 1));
  const Row y = spread_of(x, shape, tokens).y;
  for (std::size_t token = 0; token < x.size(); ++token) {
    EXPECT(y[token * 64] == x[token] && y[token * 64 + 63] == 0, "token %zu", token);
  }
}

}  // namespace
