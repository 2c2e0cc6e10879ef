#include "eqnet/program.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "../conv/aligned.h"
#include "eqnet/threads.h"
#include "operation.h"

namespace eqnet {
namespace {

constexpr std::int64_t kCacheBytes = 256 * 1024;  // that the values of some images may take on one core
constexpr std::int64_t kMostImages = 8;           // in one go, on one core
constexpr std::int64_t kPartsPerThread = 4;       // threads that lose their core for a while leave parts to others
constexpr Bounds kUnbounded = {-3.4e38f, 3.4e38f};

}  // namespace

struct Program::State {
  std::vector<std::unique_ptr<program::Operation>> operations;
  std::vector<program::ValueInfo> values;
  int result = -1;
  Isa isa;  // of the kernels
  std::map<std::pair<std::int64_t, std::int64_t>, program::Plan> plans;
  std::mutex mutex;  // of the plans and the arenas
  std::vector<conv::Aligned<std::uint8_t>> arenas;

  int add(std::unique_ptr<program::Operation> operation, Bounds bounds);
  program::ValueInfo& value(int id);
  int form(int x, const InputCoding& coding, const Pads& pads);
  const program::Plan& plan(std::int64_t height, std::int64_t width);
  void run(const program::Frame& frame, int threads) const;
};

int Program::State::add(std::unique_ptr<program::Operation> operation, Bounds bounds) {
  if (result >= 0) throw std::invalid_argument("the program is finished");
  operation->output = static_cast<int>(values.size());
  operations.push_back(std::move(operation));
  values.emplace_back();
  values.back().bounds = bounds;
  return operations.back()->output;
}

program::ValueInfo& Program::State::value(int id) {
  if (id < 0 || id >= static_cast<int>(values.size())) {
    throw std::invalid_argument("there is no value " + std::to_string(id));
  }
  return values[id];
}

// The form with this scale and padding, a new one if there is none.
int Program::State::form(int x, const InputCoding& coding, const Pads& pads) {
  auto& forms = value(x).forms;
  for (std::size_t i = 0; i < forms.size(); ++i) {
    const InputCoding& c = forms[i].coding;
    const Pads& p = forms[i].pads;
    if (c.scale == coding.scale && c.zero == coding.zero && c.levels == coding.levels && p.top == pads.top &&
        p.left == pads.left && p.bottom == pads.bottom && p.right == pads.right) {
      return static_cast<int>(i);
    }
  }
  if (forms.size() == kMaxTargets) {
    throw std::invalid_argument("more than " + std::to_string(kMaxTargets) +
                                " layers read one value with scales of their own");
  }
  forms.push_back({coding, pads});
  return static_cast<int>(forms.size()) - 1;
}

const program::Plan& Program::State::plan(std::int64_t height, std::int64_t width) {
  if (result < 0) throw std::invalid_argument("the program has no result");
  const auto key = std::make_pair(height, width);
  const auto found = plans.find(key);
  if (found != plans.end()) return found->second;
  return plans.emplace(key, program::make_plan(operations, values, height, width)).first->second;
}

void Program::State::run(const program::Frame& frame, int threads) const {
  for (const auto& operation : operations) {
    if (operation->output >= 0) program::fill_padding(frame, operation->output);
    const std::int64_t parts = threads > 1 ? operation->parts(frame, threads * kPartsPerThread) : 1;
    parallel_for(parts, threads, [&](std::int64_t part) { operation->run(frame, part, parts); });
  }
}

Program::Program(std::int64_t in_channels, Isa isa) : state_(std::make_unique<State>()) {
  state_->isa = isa;
  state_->add(program::make_input(in_channels), kUnbounded);
}

Program::~Program() = default;

Program::Value Program::convolution(Value x, const ConvShape& shape, const ConvWeights& weights,
                                    std::int32_t levels, Value residual, Bounds bounds) {
  const int form = state_->form(x, {weights.input_scale, weights.input_zero, levels}, shape.pads);
  if (residual >= 0) state_->value(residual).floats = true;
  return state_->add(program::make_convolution(x, form, shape, weights, residual, state_->isa), bounds);
}

Program::Value Program::add(Value a, Value b, Bounds bounds) {
  state_->value(a).floats = state_->value(b).floats = true;
  return state_->add(program::make_add(a, b), bounds);
}

Program::Value Program::bound(Value x, Bounds bounds) {
  state_->value(x).floats = true;
  return state_->add(program::make_bound(x), bounds);
}

Program::Value Program::pool(Value x, const PoolShape& shape, Bounds bounds) {
  state_->value(x).floats = true;
  return state_->add(program::make_pool(x, shape), bounds);
}

Program::Value Program::concatenate(const std::vector<Value>& values) {
  if (values.empty()) throw std::invalid_argument("a concatenation of nothing");
  for (const Value x : values) state_->value(x).floats = true;
  return state_->add(program::make_concatenation(values), kUnbounded);
}

Program::Value Program::flatten(Value x) {
  state_->value(x).floats = true;
  return state_->add(program::make_flattening(x), kUnbounded);
}

void Program::finish(Value result) {
  state_->value(result).floats = true;
  for (const auto& operation : state_->operations) {
    operation->set_finish(state_->values[operation->output].finish());
  }
  state_->operations.push_back(program::make_output(result));
  state_->result = result;
}

ImageSize Program::result_size(std::int64_t height, std::int64_t width) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->plan(height, width).values[state_->result].size;
}

std::int64_t Program::arena_bytes(std::int64_t height, std::int64_t width) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->plan(height, width).bytes;
}

void Program::run(const float* x, std::int64_t images, std::int64_t height, std::int64_t width, float* y,
                  int threads) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  const program::Plan& plan = state_->plan(height, width);
  if (images == 0) return;
  const ImageSize size = plan.values[state_->result].size;
  const bool in_place = size.height * size.width == 1 && state_->result != 0;
  const std::int64_t in_count = plan.values[0].size.channels * height * width;
  const std::int64_t out_count = size.channels * size.height * size.width;
  // With at least one image for each thread, threads compute whole images and never wait for each other. An image is
  // taken through the whole program before the next, as long as several at once would not fit into the cache.
  const std::int64_t workers = images >= threads ? threads : 1;
  const std::int64_t most = std::min(kMostImages, (images + workers - 1) / workers);
  const std::int64_t together = std::max<std::int64_t>(1, std::min(most, kCacheBytes / std::max<std::int64_t>(1, plan.bytes)));
  const std::int64_t groups = (images + together - 1) / together;
  const std::int64_t chains = std::min(groups, workers);
  if (static_cast<std::int64_t>(state_->arenas.size()) < chains) state_->arenas.resize(chains);
  for (std::int64_t i = 0; i < chains; ++i) {
    auto& arena = state_->arenas[i];
    const auto bytes = static_cast<std::size_t>(plan.bytes * together + kSlack);
    if (arena.size() < bytes) arena.assign(bytes, 0);
  }
  parallel_for(chains, static_cast<int>(workers), [&](std::int64_t chain) {
    for (std::int64_t g = groups * chain / chains; g < groups * (chain + 1) / chains; ++g) {
      const std::int64_t first = images * g / groups, last = images * (g + 1) / groups;
      program::Frame frame{&plan,
                           &state_->values,
                           state_->arenas[chain].data(),
                           last - first,
                           x + first * in_count,
                           y + first * out_count,
                           in_place ? state_->result : -1,
                           state_->isa};
      state_->run(frame, workers > 1 ? 1 : threads);
    }
  });
}

}  // namespace eqnet
