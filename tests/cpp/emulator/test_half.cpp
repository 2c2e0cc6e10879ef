// Numbers of 16 bits, all of them, against their definition in double; arithmetic against exact sums and products.

#include <cmath>
#include <cstdint>
#include <random>

#include "findings.h"

namespace {

// A number of 16 bits by its definition.
double defined(unsigned bits, int exponent_bits, int fraction_bits) {
  const int exponents = (1 << exponent_bits) - 1, bias = exponents / 2;
  const int exponent = static_cast<int>(bits >> fraction_bits) & exponents;
  const double fraction = std::ldexp(static_cast<double>(bits & ((1u << fraction_bits) - 1)), -fraction_bits);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == exponents) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, exponent - bias);
}

bool same(double a, double b) { return (a != a && b != b) || (a == b && std::signbit(a) == std::signbit(b)); }

// What a number rounds to: the nearer of its neighbours, or the even one, by search through all that there are.
template <typename T>
T nearest(double x, int exponent_bits, int fraction_bits) {
  if (x != x) return {0x7fff};
  const unsigned infinity = ((1u << exponent_bits) - 1) << fraction_bits;
  const double magnitude = std::fabs(x);
  unsigned low = 0, high = infinity;  // magnitude is at least the first, and less than the second
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (defined(middle, exponent_bits, fraction_bits) <= magnitude ? low : high) = middle;
  }
  const double below = defined(low, exponent_bits, fraction_bits);
  // The step to infinity is as wide as the one before it.
  const double above = high == infinity ? 2 * below - defined(low - 1, exponent_bits, fraction_bits)
                                        : defined(high, exponent_bits, fraction_bits);
  const double down = magnitude - below, up = above - magnitude;
  const bool rounds_up = up < down || (up == down && low % 2 == 1);
  return {static_cast<std::uint16_t>((rounds_up ? high : low) | (std::signbit(x) ? 0x8000u : 0u))};
}

template <typename T>
void check_all(int exponent_bits, int fraction_bits) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const T number{static_cast<std::uint16_t>(bits)};
    const double value = defined(bits, exponent_bits, fraction_bits);
    EXPECT(same(static_cast<double>(widen(number)), value), "%04x is %g, not %g", bits,
           static_cast<double>(widen(number)), value);
    const unsigned back = narrow<T>(value).bits;
    EXPECT(back == (value != value ? 0x7fff : bits), "%04x became %04x", bits, back);
    const double next = defined(bits + 1, exponent_bits, fraction_bits);
    if ((bits & 0x7fff) == 0x7fff || next != next || std::isinf(value) || std::isinf(next)) continue;
    // Half way to the next number, and just before and after.
    const double middle = value + (next - value) / 2;
    for (const double x : {middle, std::nextafter(middle, value), std::nextafter(middle, next)}) {
      EXPECT(narrow<T>(x).bits == (nearest<T>(x, exponent_bits, fraction_bits).bits), "%a became %04x", x,
             narrow<T>(x).bits);
    }
  }
}

TEST(half_converts_all_numbers) { check_all<half>(5, 10); }

TEST(half_converts_all_bfloat16_numbers) { check_all<__nv_bfloat16>(8, 7); }

TEST(half_rounds_at_its_ends) {
  EXPECT(__half_as_ushort(__float2half_rn(65519.996f)) == 0x7bff, "below half way to infinity");
  EXPECT(__half_as_ushort(__float2half_rn(65520.0f)) == 0x7c00, "half way to infinity");
  EXPECT(__half_as_ushort(__float2half_rn(-1e30f)) == 0xfc00, "far beyond");
  EXPECT(__half_as_ushort(__float2half_rn(0x1p-25f)) == 0, "half of the least");
  EXPECT(__half_as_ushort(__float2half_rn(0x1.8p-25f)) == 1, "more than half of it");
  EXPECT(__half_as_ushort(__float2half_rn(-1e-30f)) == 0x8000, "far below");
  EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(3.4e38f)) == 0x7f80, "the largest float");
  EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(0x1p-133f)) == 1, "the least");
  EXPECT(__half_as_ushort(__int2half_rn(2049)) == 0x6800 && __bfloat16_as_ushort(__int2bfloat16_rn(-257)) == 0xc380,
         "integers");
}

template <typename T>
void check_arithmetic(int exponent_bits, int fraction_bits) {
  std::mt19937 random(3);
  const auto draw = [&] { return T{static_cast<std::uint16_t>(random())}; };
  for (int i = 0; i < 20000; ++i) {
    const T a = draw(), b = draw();
    const double x = static_cast<double>(widen(a)), y = static_cast<double>(widen(b));
    const auto want = [&](double result) { return nearest<T>(result, exponent_bits, fraction_bits).bits; };
    EXPECT(__hmul(a, b).bits == want(x * y), "%g * %g", x, y);
    // Sums of halves are exact in double; those of bfloat16 are where the exponents are close.
    if (exponent_bits == 8 && std::fabs(std::log2(std::fabs(x)) - std::log2(std::fabs(y))) > 40) continue;
    EXPECT(__hadd(a, b).bits == want(x + y), "%g + %g", x, y);
    EXPECT(__hsub(a, b).bits == want(x - y), "%g - %g", x, y);
  }
}

TEST(half_adds_and_multiplies) {
  check_arithmetic<half>(5, 10);
  check_arithmetic<__nv_bfloat16>(8, 7);
}

#ifdef __SIZEOF_INT128__
TEST(half_multiplies_and_adds_with_one_rounding) {
  // In integers: every half is a multiple of 2^-24, and every product of two one of 2^-48.
  std::mt19937 random(4);
  const auto draw = [&] { return half{static_cast<std::uint16_t>((random() & 0x83ff) | random() % 30 << 10)}; };
  const auto units = [](half x) { return static_cast<__int128>(std::ldexp(static_cast<double>(widen(x)), 24)); };
  const auto check = [&](half a, half b, half c) {
    const __int128 exact = units(a) * units(b) + units(c) * (1 << 24);
    if (exact == 0) return;
    // Fifty bits and one more that says whether anything was lost.
    __int128 magnitude = exact < 0 ? -exact : exact;
    int shift = 0;
    bool lost = false;
    while (magnitude >> 50 != 0) {
      lost |= magnitude & 1;
      magnitude >>= 1;
      ++shift;
    }
    const double value = std::ldexp(static_cast<double>(magnitude * 2 + lost), shift - 49);
    const half want = nearest<half>(exact < 0 ? -value : value, 5, 10);
    EXPECT(__hfma(a, b, c).bits == want.bits, "%g * %g + %g", static_cast<double>(widen(a)),
           static_cast<double>(widen(b)), static_cast<double>(widen(c)));
  };
  for (int i = 0; i < 50000; ++i) check(draw(), draw(), draw());
  // Half way between two halves, but for a product far below what double holds beside the sum.
  check({0x0001}, {0x0001}, {0x7bff});
  check({0x7801}, {0x7802}, {0x8001});
  check({0x3c01}, {0x1001}, {0x6801});
}
#endif

TEST(half_pairs) {
  const half2 a = __floats2half2_rn(1.5f, -2), b = __float2half2_rn(3);
  const half2 c = __halves2half2(__float2half(0.25f), {0x7bff});
  const auto is = [](half2 pair, float x, float y) { return __low2float(pair) == x && __high2float(pair) == y; };
  EXPECT(is(__hadd2(a, b), 4.5f, 1) && is(__hsub2(a, b), -1.5f, -5) && is(__hmul2(a, b), 4.5f, -6), "half2");
  EXPECT(is(__hfma2(a, b, c), 4.75f, 65504 - 6 + 6), "%g", static_cast<double>(__high2float(__hfma2(a, b, c))));
  EXPECT(is(__hneg2(a), -1.5f, 2) && is(__hmax2(a, b), 3, 3) && is(__hmin2(a, b), 1.5f, -2), "order");
  EXPECT(__half_as_ushort(__hmax({0x7e01}, __float2half(1))) == 0x3c00, "NaN gives way");
  const __nv_bfloat162 d = __floats2bfloat162_rn(1.5f, -2);
  const float2 twice = __bfloat1622float2(__hadd2(d, d));
  EXPECT(twice.x == 3 && twice.y == -4, "%g", static_cast<double>(twice.x));
  EXPECT(eqnet::cuda::reinterpret<unsigned>(a) == 0xc0003e00, "%x", eqnet::cuda::reinterpret<unsigned>(a));
}

TEST(half_and_bits) {
  EXPECT(__byte_perm(0x33221100, 0x77665544, 0x6420) == 0x66442200, "bytes");
  EXPECT(__byte_perm(0x33228100, 0, 0x9988) == 0xffff0000, "signs");
  EXPECT(__funnelshift_r(0x89abcdef, 0x01234567, 8) == 0x6789abcd, "right");
  EXPECT(__funnelshift_l(0x89abcdef, 0x01234567, 8) == 0x23456789, "left");
  EXPECT(__popc(0xf0f1) == 9 && __clz(1) == 31 && __clz(0) == 32 && __ffs(8) == 4 && __brev(6) == 0x60000000, "counts");
  using eqnet::cuda::lop3;
  const unsigned a = 0x12345678, b = 0x0ff00ff0, c = 0xdeadbeef;
  EXPECT((lop3<0xf0 & 0xcc>(a, b, c)) == (a & b), "and");
  EXPECT((lop3<(0xf0 & 0xcc) | 0xaa>(a, b, c)) == ((a & b) | c), "and, or");
  EXPECT((lop3<0xf0 ^ 0xcc ^ 0xaa>(a, b, c)) == (a ^ b ^ c), "exclusive or");
  EXPECT((lop3<0xca>(a, b, c)) == ((a & b) | (~a & c)), "choice");
}

}  // namespace
