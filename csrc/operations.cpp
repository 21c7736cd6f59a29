// Rows are cut into equal runs, linears by blocks of 16 outputs, attention in pieces of like cost.
#include "operations.h"

#include <algorithm>
#include <cstring>

namespace hokku {
namespace {

// Tokens of one attention item at most: with its query heads some two hundred rows, which keep the widened keys and
// values of a block busy and stay in the second-level cache with their outputs.
constexpr int64_t kMostTileRows = 192;
constexpr int64_t kLeastTileTokens = 8;
// Pieces a worker, so that the last to finish is not far behind.
constexpr size_t kItemsPerWorker = 4;
// Reading a block of keys and values, and making it ready, costs about as much as meeting so many rows with it.
constexpr double kBlockRows = 2;
// A linear is cut by rows too, in runs of no less than this, when it has fewer blocks than would occupy everybody.
constexpr int64_t kLeastLinearRows = 64;
// Runs begin at whole tiles: tile kernels read up to 32 rows at once, and operands end at a multiple of 32.
constexpr int64_t kLinearRowUnit = 32;
// Rows of the vocabulary's length that a part of the sampler takes: candidates and weights, all and few of them.
constexpr int64_t kScratchRows = 4;

// A linear's parts are runs of blocks times runs of rows: how many of the latter.
int runs_of_rows(int64_t units, int64_t rows, int num_parts) {
  int runs = 1;
  while (num_parts % (runs * 2) == 0 && units < 2 * (num_parts / runs) && rows >= 2 * runs * kLeastLinearRows) {
    runs *= 2;
  }
  return runs;
}

Operand from_row(Operand a, int64_t row) {
  a.data += row * a.row_bytes();
  a.scale += row * a.groups();
  a.sum += row * a.groups();
  return a;
}

// Keys that rows at `position` and before it, `count` of them, look at.
double keys_seen(int64_t first_position, int64_t count) {
  return static_cast<double>(count) * (static_cast<double>(first_position) + static_cast<double>(count + 1) / 2);
}

// When the last worker is done if each, once idle, takes the next item.
double time_of(const std::vector<AttentionPlan::Item>& items, size_t num_workers) {
  std::vector<double> busy_until(num_workers, 0.0);
  for (const AttentionPlan::Item& item : items) *std::min_element(busy_until.begin(), busy_until.end()) += item.cost;
  return *std::max_element(busy_until.begin(), busy_until.end());
}

}  // namespace

void EmbedOperation::work(const StepContext& context, int part) noexcept {
  const Span rows = share(context.step.rows, part, context.num_parts);
  context.table.embed(weight_, context.step, out_.data(), out_.stride, rows.begin, rows.end);
}

void FeaturesOperation::work(const StepContext& context, int part) noexcept {
  const Step& step = context.step;
  const Span rows = share(step.rows, part, context.num_parts);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    std::memcpy(out_.data() + r * out_.stride, step.features + r * step.feature_cols,
                static_cast<size_t>(step.feature_cols) * sizeof(float));
  }
}

void EncodeOperation::work(const StepContext& context, int part) noexcept {
  const Span rows = share(context.rows(out_.kind), part, context.num_parts);
  context.table.encode(x_.data(), x_.stride, out_.view, rows.begin, rows.end);
}

void NormOperation::work(const StepContext& context, int part) noexcept {
  const Span rows = share(context.rows(out_.kind), part, context.num_parts);
  const auto norm = task_.bias == nullptr ? context.table.rms_norm : context.table.layer_norm;
  norm(task_, out_.view, rows.begin, rows.end);
}

std::string LinearOperation::name() const {
  constexpr const char* kFormats[] = {"int8", "int4", "bf16"};
  return std::string("linear ") + kFormats[static_cast<int>(weight_.format)] + " " + std::to_string(weight_.rows) + "x" +
         std::to_string(weight_.cols);
}

void LinearOperation::work(const StepContext& context, int part) noexcept {
  const int64_t unit = epilogue_ == Epilogue::swiglu ? 2 : 1;  // gate and up blocks stay together
  const int64_t units = weight_.blocks() / unit, all_rows = context.rows(out_.kind);
  const int row_runs = runs_of_rows(units, all_rows, context.num_parts);
  const Span blocks = share(units, part / row_runs, context.num_parts / row_runs);
  const Span tiles = share((all_rows + kLinearRowUnit - 1) / kLinearRowUnit, part % row_runs, row_runs);
  const Span rows = {tiles.begin * kLinearRowUnit, std::min(tiles.end * kLinearRowUnit, all_rows)};
  if (blocks.begin == blocks.end || rows.begin >= rows.end) return;

  const Operand a = from_row(a_.view, rows.begin);
  const LinearTask task{&a, &weight_, rows.end - rows.begin, blocks.begin * unit, blocks.end * unit,
                        out_.data() + rows.begin * out_.stride, out_.stride, bias_, epilogue_};
  switch (weight_.format) {
    case WeightFormat::int8: context.table.linear_int8(task); break;
    case WeightFormat::int4: context.table.linear_int4(task); break;
    case WeightFormat::bf16: context.table.linear_bf16(task); break;
  }
}

void RopeOperation::work(const StepContext& context, int part) noexcept {
  const Span rows = share(context.step.rows, part, context.num_parts);
  RopeTask task = task_;
  task.step = &context.sequences(windowed_);
  context.table.rope_and_store(task, rows.begin, rows.end);
}

void AttentionPlan::cut(const Step& step, int64_t tile_tokens) {
  items_.clear();
  const int64_t group = heads_ / kv_heads_;
  for (int64_t s = 0; s < step.sequences; ++s) {
    for (int64_t begin = step.row_start[s]; begin < step.row_start[s + 1]; begin += tile_tokens) {
      const int64_t end = std::min<int64_t>(begin + tile_tokens, step.row_start[s + 1]);
      const int64_t all = step.positions[step.row_start[s + 1] - 1] + 1;
      const double keys = kind_.causal ? keys_seen(step.positions[begin], end - begin)
                                  : static_cast<double>(all) * static_cast<double>(end - begin);
      for (int64_t head = 0; head < heads_; head += group) {
        items_.push_back({s, begin, end, head, head + group, keys * (kBlockRows + static_cast<double>(group))});
      }
    }
  }
}

void AttentionPlan::sort() {
  std::stable_sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) { return a.cost > b.cost; });
}

std::vector<AttentionPlan::Item> AttentionPlan::with_last_split(size_t count, int64_t part_heads) const {
  std::vector<Item> items(items_.begin(), items_.end() - static_cast<std::ptrdiff_t>(count));
  for (size_t i = items_.size() - count; i < items_.size(); ++i) {
    const Item& whole = items_[i];
    const double keys = whole.cost / (kBlockRows + static_cast<double>(whole.head_end - whole.head_begin));
    for (int64_t head = whole.head_begin; head < whole.head_end; head += part_heads) {
      Item part = whole;
      part.head_begin = head;
      part.head_end = std::min(head + part_heads, whole.head_end);
      part.cost = keys * (kBlockRows + static_cast<double>(part.head_end - head));
      items.push_back(part);
    }
  }
  return items;
}

void AttentionPlan::prepare(const Step& whole, int num_workers) {
  const Step& step = kind_.windowed ? *whole.windows : whole;
  const int64_t group = heads_ / kv_heads_;
  const auto workers = static_cast<size_t>(num_workers);
  int64_t tile_tokens = std::max<int64_t>(1, kMostTileRows / group);
  cut(step, tile_tokens);
  while (items_.size() < kItemsPerWorker * workers && tile_tokens / 2 >= kLeastTileTokens) {
    tile_tokens /= 2;
    cut(step, tile_tokens);
  }
  sort();
  // Few pieces: those left over when everybody has had as many are shared by query heads, if that is sooner done.
  if (items_.size() >= kItemsPerWorker * workers) return;
  std::vector<Item> best = items_;
  for (int64_t part_heads = 1; part_heads < group; ++part_heads) {
    std::vector<Item> split = with_last_split(items_.size() % workers, part_heads);
    if (time_of(split, workers) < time_of(best, workers)) best = std::move(split);
  }
  items_ = std::move(best);
  sort();
}

void AttentionOperation::prepare(const StepContext&) { next_.store(0, std::memory_order_relaxed); }

void AttentionOperation::work(const StepContext& context, int) noexcept {
  AttentionTask task = task_;
  task.step = &context.sequences(windowed_);
  const std::vector<AttentionPlan::Item>& items = plan_.items();
  for (size_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < items.size();) {
    const AttentionPlan::Item& item = items[i];
    context.table.attention(task, item.sequence, item.row_begin, item.row_end, item.head_begin, item.head_end);
  }
}

void GatherOperation::work(const StepContext& context, int part) noexcept {
  const Span rows = share(context.step.logit_rows, part, context.num_parts);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t i = 0; i < out_.cols / x_.cols; ++i) {
      std::memcpy(out_.data() + r * out_.stride + i * x_.cols, x_.data() + (context.step.logit_index[r] + i) * x_.stride,
                  static_cast<size_t>(x_.cols) * sizeof(float));
    }
  }
}

SampleOperation::SampleOperation(const TensorBuffer& logits, int num_parts)
    : Operation(RowKind::logits),
      logits_(logits),
      scratch_(static_cast<size_t>(logits.stride * kScratchRows * num_parts) * sizeof(float)) {}

void SampleOperation::work(const StepContext& context, int part) noexcept {
  const Span rows = share(context.step.logit_rows, part, context.num_parts);
  float* scratch = scratch_.as<float>() + part * kScratchRows * logits_.stride;
  context.table.sample(context.step, logits_.data(), logits_.stride, logits_.cols, scratch, rows.begin, rows.end);
}

}  // namespace hokku
