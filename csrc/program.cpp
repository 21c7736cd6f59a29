// Recording and running; step.cpp holds the checks of what a step brings.
#include "program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "operations.h"

namespace hokku {
namespace {

// The row kernels' scratch and the register tiles of attention: rope.inl, attention.inl.
constexpr int64_t kLargestHeadDim = 256;
constexpr int64_t kLargestHeadGroup = 64;
// Of which a norm keeps the numbers beside it: encode.inl.
constexpr int64_t kMostNormRuns = 64;
// Tile kernels may read, never write, up to this many rows at once.
constexpr int64_t kOperandRowPad = 32;

[[noreturn]] void refuse(const std::string& name, const std::string& why) { throw std::invalid_argument(name + ": " + why); }

void require(bool holds, const char* name, const std::string& why) {
  if (!holds) refuse(name, why);
}

void require_count(const char* name, int64_t actual, int64_t wanted) {
  require(actual == wanted, name, "has " + std::to_string(actual) + " values where " + std::to_string(wanted) + " are needed");
}

void require_cols(const char* name, int64_t actual, int64_t wanted) {
  require(actual == wanted, name, "has " + std::to_string(actual) + " columns where " + std::to_string(wanted) + " are needed");
}

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

OperandFormat operand_format(WeightFormat weights) {
  switch (weights) {
    case WeightFormat::int8: return OperandFormat::int8_segment;
    case WeightFormat::int4: return OperandFormat::int8_group;
    case WeightFormat::bf16: return OperandFormat::bf16;
  }
  refuse("weight", "unknown format");
}

Memory floats(int64_t count) { return Memory(static_cast<size_t>(count) * sizeof(float)); }

using Clock = std::chrono::steady_clock;

// The workers' walk over the step's operations.
class StepJob final : public Job {
 public:
  // ended: null, or room for the moment at which each operation was done.
  StepJob(const StepContext& context, const std::vector<Operation*>& operations, Clock::time_point* ended)
      : context_(context), operations_(operations), stages_(operations.size(), context.num_parts), ended_(ended) {}
  void work(int worker) noexcept override {
    for (size_t i = 0; i < operations_.size(); ++i) {
      stages_.walk(i, worker, [&](int part) { operations_[i]->work(context_, part); });
      if (ended_ != nullptr && worker == 0) ended_[i] = Clock::now();
    }
  }

 private:
  const StepContext& context_;
  const std::vector<Operation*>& operations_;
  Stages stages_;
  Clock::time_point* const ended_;
};

}  // namespace

PageMemory::PageMemory(int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim, KvFormat format) {
  require(layers > 0, "layers", "must be at least 1");
  require(pages > 0 && pages <= std::numeric_limits<int32_t>::max(), "pages", "must be at least 1 and fit 31 bits");
  require(kv_heads > 0, "kv_heads", "must be at least 1");
  require(head_dim > 0 && head_dim % kLanes == 0 && head_dim <= kLargestHeadDim, "head_dim",
          "must be a multiple of 16 up to 256");
  require(format == KvFormat::bf16 || format == KvFormat::int8, "format", "unknown");
  view_ = {format, layers, pages, kv_heads, head_dim, nullptr, nullptr, nullptr, nullptr};
  const auto bytes = static_cast<size_t>(view_.num_heads() * view_.head_bytes());
  k_ = Memory(bytes);
  v_ = Memory(bytes);
  view_.k = k_.as<uint8_t>();
  view_.v = v_.as<uint8_t>();
  if (format == KvFormat::int8) {
    k_scale_ = floats(view_.num_heads() * kPageTokens);
    v_log_scale_ = floats(view_.num_heads() * kPageTokens);
    view_.k_scale = k_scale_.as<float>();
    view_.v_log_scale = v_log_scale_.as<float>();
  }
}

template <class Visit>
void PageMemory::for_each_piece(const int32_t* ids, int64_t count, const Visit& visit) const {
  for (int64_t i = 0; i < count; ++i) require(ids[i] >= 0 && ids[i] < view_.pages, "pages", "one outside the pool");
  for (int64_t i = 0; i < count; ++i) {
    for (const Memory* memory : {&k_, &v_, &k_scale_, &v_log_scale_}) {
      const size_t bytes = memory->bytes() / static_cast<size_t>(view_.pages);
      if (bytes != 0) visit(memory->as<uint8_t>() + static_cast<size_t>(ids[i]) * bytes, bytes);
    }
  }
}

void PageMemory::read(const int32_t* ids, int64_t count, uint8_t* out) const {
  for_each_piece(ids, count, [&out](const uint8_t* piece, size_t bytes) {
    std::memcpy(out, piece, bytes);
    out += bytes;
  });
}

void PageMemory::write(const int32_t* ids, int64_t count, const uint8_t* in) {
  for_each_piece(ids, count, [&in](uint8_t* piece, size_t bytes) {
    std::memcpy(piece, in, bytes);
    in += bytes;
  });
}

Program::Program(int64_t max_rows, int64_t max_logit_rows, std::shared_ptr<PageMemory> pool,
                 std::shared_ptr<ThreadPool> threads, const KernelTable& table)
    : max_rows_(max_rows),
      max_logit_rows_(max_logit_rows),
      pool_(std::move(pool)),
      threads_(std::move(threads)),
      table_(table),
      max_positions_(std::numeric_limits<int64_t>::max()),
      num_embeddings_(std::numeric_limits<int64_t>::max()) {
  require(max_rows > 0, "max_rows", "must be at least 1");
  require(max_logit_rows > 0, "max_logit_rows", "must be at least 1");
}

Program::~Program() = default;

int Program::tensor(int64_t cols, RowKind kind) {
  require(cols > 0, "cols", "must be at least 1");
  const int64_t rows = kind == RowKind::tokens ? max_rows_ : max_logit_rows_, stride = round_up(cols, kLanes);
  tensors_.push_back(std::make_unique<TensorBuffer>(TensorBuffer{cols, stride, kind, floats(rows * stride)}));
  return static_cast<int>(tensors_.size()) - 1;
}

int Program::operand(int64_t cols, WeightFormat weights, int64_t segments, RowKind kind) {
  require(cols > 0, "cols", "must be at least 1");
  const int64_t depth = round_up(cols, kDepthPad);
  require(segments > 0 && depth % (segments * kDepthPad) == 0, "cols", "do not fall into the weight's segments");
  const int64_t rows = round_up(kind == RowKind::tokens ? max_rows_ : max_logit_rows_, kOperandRowPad);
  auto buffer = std::make_unique<OperandBuffer>();
  buffer->kind = kind;
  buffer->view = {operand_format(weights), cols, depth, segments, nullptr, nullptr, nullptr};
  Operand& view = buffer->view;
  buffer->data = Memory(static_cast<size_t>(rows * view.row_bytes()));
  buffer->scale = floats(rows * view.groups());
  buffer->sum = Memory(static_cast<size_t>(rows * view.groups()) * sizeof(int32_t));
  view.data = buffer->data.as<uint8_t>();
  view.scale = buffer->scale.as<float>();
  view.sum = buffer->sum.as<int32_t>();
  operands_.push_back(std::move(buffer));
  return static_cast<int>(operands_.size()) - 1;
}

TensorBuffer& Program::tensor_of(int number, const char* name) {
  require(number >= 0 && static_cast<size_t>(number) < tensors_.size(), name, "is not a tensor of this program");
  return *tensors_[static_cast<size_t>(number)];
}

OperandBuffer& Program::operand_of(int number, const char* name) {
  require(number >= 0 && static_cast<size_t>(number) < operands_.size(), name, "is not an operand of this program");
  return *operands_[static_cast<size_t>(number)];
}

const TensorBuffer& Program::buffer(int tensor) const { return const_cast<Program*>(this)->tensor_of(tensor, "tensor"); }

float* Program::copy(const float* values, int64_t count, int64_t padded) {
  copies_.push_back(floats(padded));
  float* target = copies_.back().as<float>();
  std::memcpy(target, values, static_cast<size_t>(count) * sizeof(float));
  return target;
}

void Program::embed(int out, const Weight& table) {
  const TensorBuffer& buffer = tensor_of(out, "out");
  require(buffer.kind == RowKind::tokens, "out", "must hold token rows");
  require_cols("out", buffer.cols, table.cols);
  num_embeddings_ = std::min(num_embeddings_, table.rows);
  if (!has_feature_rows_) take_features(table.cols);
  operations_.push_back(std::make_unique<EmbedOperation>(buffer, table));
}

void Program::features(int out) {
  const TensorBuffer& buffer = tensor_of(out, "out");
  require(buffer.kind == RowKind::tokens, "out", "must hold token rows");
  require(!has_feature_rows_, "out", "a program takes its features once");
  has_feature_rows_ = true;
  feature_cols_ = buffer.cols;
  operations_.push_back(std::make_unique<FeaturesOperation>(buffer));
}

void Program::take_features(int64_t cols) {
  feature_cols_ = feature_cols_ == 0 || feature_cols_ == cols ? cols : -1;
}

void Program::add_norm(int out, int x, const float* gain, int64_t num_gains, const float* bias, float eps) {
  OperandBuffer& operand = operand_of(out, "out");
  const TensorBuffer& input = tensor_of(x, "x");
  const int64_t cols = operand.view.cols;
  require(operand.kind == input.kind, "x", "must hold the same rows as out");
  require_cols("x", input.cols, cols);
  require(num_gains > 0 && cols % num_gains == 0 && cols / num_gains <= kMostNormRuns &&
              (num_gains == cols || num_gains % kLanes == 0),
          "gain", "must have as many values as x has columns, or as many as each of equal runs of whole vectors of them");
  const float* gains = copy(gain, num_gains, num_gains);
  const float* biases = bias == nullptr ? nullptr : copy(bias, num_gains, num_gains);
  operations_.push_back(
      std::make_unique<NormOperation>(operand, NormTask{input.data(), input.stride, gains, biases, num_gains, eps}));
}

void Program::rms_norm(int out, int x, const float* gain, int64_t num_gains, float eps) {
  add_norm(out, x, gain, num_gains, nullptr, eps);
}

void Program::layer_norm(int out, int x, const float* gain, int64_t num_gains, const float* bias, float eps) {
  add_norm(out, x, gain, num_gains, bias, eps);
}

void Program::encode(int out, int x) {
  OperandBuffer& operand = operand_of(out, "out");
  const TensorBuffer& input = tensor_of(x, "x");
  require(operand.kind == input.kind, "x", "must hold the same rows as out");
  require_cols("x", input.cols, operand.view.cols);
  operations_.push_back(std::make_unique<EncodeOperation>(operand, input));
}

void Program::add_linear(TensorBuffer& out, const OperandBuffer& a, const Weight& w, const float* bias,
                         int64_t num_biases, Epilogue epilogue) {
  require(out.kind == a.kind, "a", "must hold the same rows as out");
  require(a.view.format == operand_format(w.format), "a", "was encoded for another weight format");
  require(a.view.segments == w.segments, "a", "was encoded for another number of segments");
  require_cols("a", a.view.cols, w.cols);
  require_cols("out", out.cols, epilogue == Epilogue::swiglu ? w.rows / 2 : w.rows);
  const float* padded = nullptr;
  if (bias != nullptr) {
    require_count("bias", num_biases, w.rows);
    padded = copy(bias, num_biases, w.blocks() * kLanes);
  }
  operations_.push_back(std::make_unique<LinearOperation>(out, a, w, padded, epilogue));
}

void Program::linear(int out, int a, const Weight& w, const float* bias, int64_t num_biases, bool accumulate) {
  add_linear(tensor_of(out, "out"), operand_of(a, "a"), w, bias, num_biases,
             accumulate ? Epilogue::accumulate : Epilogue::store);
}

void Program::linear_swiglu(int out, int a, const Weight& w, const float* bias, int64_t num_biases) {
  require(w.rows % (2 * kLanes) == 0, "w", "must hold gate and up rows in alternating runs of 16");
  add_linear(tensor_of(out, "out"), operand_of(a, "a"), w, bias, num_biases, Epilogue::swiglu);
}

void Program::linear_gelu(int out, int a, const Weight& w, const float* bias, int64_t num_biases) {
  add_linear(tensor_of(out, "out"), operand_of(a, "a"), w, bias, num_biases, Epilogue::gelu);
}

void Program::rope_and_store(int q, int qkv, const RopeTables& rope, int64_t layer, const float* q_gain,
                             const float* k_gain, float eps, bool windowed) {
  const TensorBuffer& out = tensor_of(q, "q");
  const TensorBuffer& in = tensor_of(qkv, "qkv");
  const PagePool& pool = pool_->view();
  require(out.kind == RowKind::tokens && in.kind == RowKind::tokens, "qkv", "q and qkv must hold token rows");
  require(out.cols % (pool.kv_heads * pool.head_dim) == 0, "q", "its heads must be a multiple of the pool's kv_heads");
  require_cols("qkv", in.cols, out.cols + 2 * pool.kv_heads * pool.head_dim);
  require(rope.rotary_dim % 2 == 0 && rope.rotary_dim <= pool.head_dim, "rope",
          "must rotate an even number of dimensions up to head_dim");
  require(layer >= 0 && layer < pool.layers, "layer", "is not in the pool");
  const auto axes = static_cast<int64_t>(rope.sections.size());
  require(axes <= kMostRopeAxes && (axes == 0 || std::accumulate(rope.sections.begin(), rope.sections.end(), int64_t{0}) == rope.rotary_dim / 2) &&
              std::all_of(rope.sections.begin(), rope.sections.end(), [](int64_t pairs) { return pairs >= 0; }),
          "rope.sections", "must be up to three counts that add up to the tables' columns");
  require(rope_axes_ == 0 || axes == 0 || rope_axes_ == axes, "rope.sections", "are of another number than before");
  rope_axes_ = std::max(rope_axes_, axes);
  has_windows_ = has_windows_ || windowed;
  max_positions_ = std::min(max_positions_, rope.positions);
  const float* q_copy = q_gain == nullptr ? nullptr : copy(q_gain, pool.head_dim, pool.head_dim);
  const float* k_copy = k_gain == nullptr ? nullptr : copy(k_gain, pool.head_dim, pool.head_dim);
  RopeTask task{in.data(), out.data(), q_copy, k_copy, eps, rope.q_scale, out.cols / pool.head_dim, pool.kv_heads,
                pool.head_dim, rope.rotary_dim, rope.cos, rope.sin, {}, &pool, layer, nullptr};
  std::copy(rope.sections.begin(), rope.sections.end(), task.sections);
  operations_.push_back(std::make_unique<RopeOperation>(task, windowed));
}

AttentionPlan& Program::plan_for(int64_t heads, AttentionKind kind) {
  for (const auto& plan : plans_) {
    if (plan->is_for(heads, kind)) return *plan;
  }
  plans_.push_back(std::make_unique<AttentionPlan>(heads, pool_->view().kv_heads, kind));
  return *plans_.back();
}

void Program::attention(int out, int q, int64_t layer, AttentionKind kind) {
  const TensorBuffer& target = tensor_of(out, "out");
  const TensorBuffer& query = tensor_of(q, "q");
  require(out != q, "out", "must not be q itself");
  const PagePool& pool = pool_->view();
  require(target.kind == RowKind::tokens && query.kind == RowKind::tokens, "q", "q and out must hold token rows");
  require_cols("out", target.cols, query.cols);
  require(query.cols % (pool.kv_heads * pool.head_dim) == 0, "q", "its heads must be a multiple of the pool's kv_heads");
  const int64_t heads = query.cols / pool.head_dim;
  require(heads / pool.kv_heads <= kLargestHeadGroup, "q", "has more than 64 query heads a KV head");
  require(layer >= 0 && layer < pool.layers, "layer", "is not in the pool");
  has_windows_ = has_windows_ || kind.windowed;
  const AttentionTask task{query.data(), target.data(), heads, &pool, layer, kind.causal, nullptr};
  operations_.push_back(std::make_unique<AttentionOperation>(task, kind.windowed, plan_for(heads, kind)));
}

void Program::gather(int out, int x) {
  const TensorBuffer& target = tensor_of(out, "out");
  const TensorBuffer& source = tensor_of(x, "x");
  require(target.kind == RowKind::logits, "out", "must hold logit rows");
  require(source.kind == RowKind::tokens, "x", "must hold token rows");
  require(target.cols % source.cols == 0, "out", "its columns must be a multiple of x's");
  most_joined_rows_ = std::max(most_joined_rows_, target.cols / source.cols);
  operations_.push_back(std::make_unique<GatherOperation>(target, source));
}

void Program::sample(int logits) {
  const TensorBuffer& buffer = tensor_of(logits, "logits");
  require(buffer.kind == RowKind::logits, "logits", "must hold logit rows");
  require(vocabulary_ == 0, "logits", "a program samples once");
  require(buffer.cols < (int64_t{1} << 24), "logits", "has 2^24 columns or more");
  vocabulary_ = buffer.cols;
  operations_.push_back(std::make_unique<SampleOperation>(buffer, threads_->num_threads()));
}

void Program::run(const Step& step) {
  check(step);
  const StepContext context{step, table_, threads_->num_threads()};
  for (const auto& plan : plans_) plan->prepare(step, threads_->num_threads());
  std::vector<Operation*> active;
  for (const auto& operation : operations_) {
    if (operation->writes() == RowKind::logits && step.logit_rows == 0) continue;
    operation->prepare(context);
    active.push_back(operation.get());
  }
  std::vector<Clock::time_point> ended(is_timed_ ? active.size() : 0);
  StepJob job(context, active, is_timed_ ? ended.data() : nullptr);
  auto began = Clock::now();
  threads_->run(job);
  timings_.clear();
  for (size_t i = 0; i < ended.size(); began = ended[i++]) {
    timings_.push_back({active[i]->name(), std::chrono::duration<double>(ended[i] - began).count()});
  }
  last_rows_ = step.rows;
  last_logit_rows_ = step.logit_rows;
}

}  // namespace hokku
