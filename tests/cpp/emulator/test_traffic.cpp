// What warps ask of memory, counted: sectors of global memory, and passes over the banks of shared memory.

#include <vector>

#include "findings.h"

namespace {

// What one warp's access to elements of an array of T counts, each lane's at an index.
template <typename T, typename Index>
Traffic global_reads(Index index) {
  const Buffer<const T> x("x", std::vector<T>(4096));
  const Report report = run({"read", 1, 32}, [&] { load(x.address() + index(static_cast<int>(threadIdx.x))); });
  expect_clean(report);
  EXPECT(report.traffic.read_sectors * 32 == x.read_bytes(), "%lld", static_cast<long long>(x.read_bytes()));
  EXPECT(report.traffic.global_accesses == 1, "%lld", static_cast<long long>(report.traffic.global_accesses));
  return report.traffic;
}

void expect_sectors(const Traffic& traffic, int sectors, int least) {
  EXPECT(traffic.read_sectors == sectors && traffic.least_read_sectors == least, "%lld of at least %lld",
         static_cast<long long>(traffic.read_sectors), static_cast<long long>(traffic.least_read_sectors));
}

TEST(traffic_counts_sectors) {
  expect_sectors(global_reads<float>([](int i) { return i; }), 4, 4);
  expect_sectors(global_reads<float>([](int i) { return 31 - i; }), 4, 4);
  expect_sectors(global_reads<float>([](int i) { return i + 1; }), 5, 4);       // off by one element
  expect_sectors(global_reads<float>([](int i) { return i * 2; }), 8, 4);       // every second one
  expect_sectors(global_reads<float>([](int i) { return i * 64; }), 32, 4);     // a column
  expect_sectors(global_reads<float>([](int) { return 5; }), 1, 1);             // all the same
  expect_sectors(global_reads<uint4>([](int i) { return i; }), 16, 16);
  expect_sectors(global_reads<uint4>([](int i) { return i * 2; }), 32, 16);
  expect_sectors(global_reads<unsigned char>([](int i) { return i; }), 1, 1);
  expect_sectors(global_reads<unsigned char>([](int i) { return i * 32; }), 32, 1);
}

TEST(traffic_counts_sectors_of_writes) {
  const Buffer<float> y("y", 1024);
  const Report report = run({"write", 1, 64}, [&] { store(y.address() + threadIdx.x * 8, 0); });
  EXPECT(report.traffic.write_sectors == 64 && report.traffic.least_write_sectors == 8, "%lld of %lld",
         static_cast<long long>(report.traffic.write_sectors),
         static_cast<long long>(report.traffic.least_write_sectors));
  EXPECT(report.traffic.uncoalesced() == 56 && y.write_bytes() == 2048, "%lld",
         static_cast<long long>(report.traffic.uncoalesced()));
}

TEST(traffic_tells_places_apart) {
  const Buffer<const float> x("x", std::vector<float>(1024));
  const int line = __LINE__;
  const Report report = run({"two", 1, 32}, [&] {
    load(x.address() + threadIdx.x);
    load(x.address() + threadIdx.x * 16);
  });
  EXPECT(report.sites.size() == 2, "%zu", report.sites.size());
  for (const SiteTraffic& site : report.sites) {
    const bool first = site.site.line == line + 2;
    EXPECT(first || site.site.line == line + 3, "line %d", site.site.line);
    EXPECT(site.traffic.uncoalesced() == (first ? 0 : 28), "%lld", static_cast<long long>(site.traffic.uncoalesced()));
  }
}

TEST(traffic_takes_turns_of_a_loop_as_one_access_each) {
  const Buffer<const float> x("x", std::vector<float>(320));
  const Report report = run({"turns", 1, 32}, [&] {
    // Lanes leave the loop after different numbers of turns.
    for (unsigned i = 0; i < 1 + threadIdx.x / 4; ++i) load(x.address() + i * 32 + threadIdx.x);
  });
  EXPECT(report.traffic.global_accesses == 8, "%lld", static_cast<long long>(report.traffic.global_accesses));
  // 4 lanes of 4 bytes leave at each turn: 128 bytes, 112, ... 16, the odd ones half a sector more.
  expect_sectors(report.traffic, 4 + 4 + 3 + 3 + 2 + 2 + 1 + 1, 4 + 4 + 3 + 3 + 2 + 2 + 1 + 1);
}

// Conflicts of one warp's writes to elements of an array of T in shared memory.
template <typename T, typename Index>
int conflicts(Index index) {
  const Report report = run({"banks", 1, 32}, [&] {
    SHARED(T, array, 4096);
    store(array + index(static_cast<int>(threadIdx.x)), T{});
  });
  EXPECT(report.traffic.shared_accesses == 1, "%lld", static_cast<long long>(report.traffic.shared_accesses));
  EXPECT(report.sites.size() == 1 && report.sites[0].traffic.bank_conflicts == report.traffic.bank_conflicts, "sites");
  return static_cast<int>(report.traffic.bank_conflicts);
}

TEST(traffic_counts_bank_conflicts) {
  EXPECT(conflicts<float>([](int i) { return i; }) == 0, "in a row");
  EXPECT(conflicts<float>([](int i) { return i * 2; }) == 1, "every second");
  EXPECT(conflicts<float>([](int i) { return i * 32; }) == 31, "a column");
  EXPECT(conflicts<float>([](int i) { return i * 33; }) == 0, "a column of padded rows");
  EXPECT(conflicts<half>([](int i) { return i; }) == 0, "two in a bank's word");
  EXPECT(conflicts<half>([](int i) { return i * 64; }) == 31, "a column of halves");
  EXPECT(conflicts<uint2>([](int i) { return i; }) == 0, "8 bytes in a row, in two passes");
  EXPECT(conflicts<uint2>([](int i) { return i * 16; }) == 30, "a column of 8 bytes: 15 more in each half");
  EXPECT(conflicts<uint4>([](int i) { return i; }) == 0, "16 bytes in a row, in four passes");
  EXPECT(conflicts<uint4>([](int i) { return i * 2; }) == 4, "every second 16 bytes");
  EXPECT(conflicts<uint4>([](int i) { return i * 8; }) == 28, "a column of 16 bytes: 7 more in each quarter");
}

TEST(traffic_counts_no_conflict_of_lanes_at_one_address) {
  const Report report = run({"broadcast", 1, 32}, [] {
    SHARED(float, array, 64);
    store(array + threadIdx.x, 0);
    store(array + 32 + threadIdx.x, 0);
    __syncwarp();
    load(array + threadIdx.x % 2 * 32);  // two words of one bank
    load(array + 7);
  });
  expect_clean(report);
  EXPECT(report.traffic.bank_conflicts == 1, "%lld", static_cast<long long>(report.traffic.bank_conflicts));
}

}  // namespace
