// What tests of the emulator ask of reports.
#pragma once

#include <string>

#include "check.h"
#include "cuda/device.h"
#include "emulator/launch.h"
#include "emulator/memory.h"

namespace {

using namespace eqnet::emulator;

[[maybe_unused]] void expect_clean(const Report& report) {
  EXPECT(report.findings.empty(), "\n%s", report.text().c_str());
}

// Whether the report tells of one thing alone, about this thread, in words that contain `text`.
[[maybe_unused]] void expect_only(const Report& report, Kind kind, unsigned thread, const char* text) {
  const bool found = report.findings.size() == 1 && report.findings[0].kind == kind &&
                     report.findings[0].thread.x == thread && report.findings[0].text.find(text) != std::string::npos;
  EXPECT(found, "%s, thread %u, %s, but:\n%s", name(kind), thread, text, report.text().c_str());
}

}  // namespace
