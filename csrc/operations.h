// The operations of a recorded program and how each is cut into parts for the workers. Every row's result is the row's own,
// so a split never changes a bit: it is only about who does what.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels.h"
#include "program.h"

namespace hokku {

struct Span {
  int64_t begin, end;
};

// Part `part` of `parts` of [0, count), neighbouring parts next to each other, sizes as equal as can be.
inline Span share(int64_t count, int part, int parts) {
  return {count * part / parts, count * (part + 1) / parts};
}

// What the operations of one step need to know.
struct StepContext {
  const Step& step;
  const KernelTable& table;
  int num_parts;  // of every operation: as many as workers
  // The step, or its rows as windows.
  const Step& sequences(bool windowed) const { return windowed ? *step.windows : step; }
  int64_t rows(RowKind kind) const { return kind == RowKind::tokens ? step.rows : step.logit_rows; }
};

class Operation {
 public:
  explicit Operation(RowKind writes) : writes_(writes) {}
  virtual ~Operation() = default;
  // Which rows the operation writes: with no logit rows in a step, those that write them are left out.
  RowKind writes() const { return writes_; }
  // What it is called in a profile; operations of one name are of one kind and shape.
  virtual std::string name() const = 0;
  // Once a step, on the caller's thread, before any worker starts.
  virtual void prepare(const StepContext&) {}
  // One part; each is done once, by any worker, and several at the same time.
  virtual void work(const StepContext& context, int part) noexcept = 0;

 private:
  const RowKind writes_;
};

class EmbedOperation final : public Operation {
 public:
  EmbedOperation(const TensorBuffer& out, const Weight& weight)
      : Operation(out.kind), out_(out), weight_(weight) {}
  std::string name() const override { return "embed"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  const TensorBuffer& out_;
  const Weight weight_;
};

class FeaturesOperation final : public Operation {
 public:
  explicit FeaturesOperation(const TensorBuffer& out) : Operation(out.kind), out_(out) {}
  std::string name() const override { return "features"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  const TensorBuffer& out_;
};

class EncodeOperation final : public Operation {
 public:
  EncodeOperation(OperandBuffer& out, const TensorBuffer& x) : Operation(out.kind), out_(out), x_(x) {}
  std::string name() const override { return "encode"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  OperandBuffer& out_;
  const TensorBuffer& x_;
};

// `layer_norm`, or `rms_norm` when there is no bias.
class NormOperation final : public Operation {
 public:
  NormOperation(OperandBuffer& out, const NormTask& task) : Operation(out.kind), out_(out), task_(task) {}
  std::string name() const override { return task_.bias == nullptr ? "rms_norm" : "layer_norm"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  OperandBuffer& out_;
  const NormTask task_;
};

class LinearOperation final : public Operation {
 public:
  LinearOperation(const TensorBuffer& out, const OperandBuffer& a, const Weight& weight, const float* bias,
                  Epilogue epilogue)
      : Operation(out.kind), out_(out), a_(a), weight_(weight), bias_(bias), epilogue_(epilogue) {}
  std::string name() const override;
  void work(const StepContext& context, int part) noexcept override;

 private:
  const TensorBuffer& out_;
  const OperandBuffer& a_;
  const Weight weight_;
  const float* const bias_;
  const Epilogue epilogue_;
};

class RopeOperation final : public Operation {
 public:
  RopeOperation(const RopeTask& task, bool windowed)
      : Operation(RowKind::tokens), task_(task), windowed_(windowed) {}
  std::string name() const override { return "rope_and_store"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  const RopeTask task_;  // all but the step
  const bool windowed_;
};

// A step's attention cut into pieces that workers take one after the other, the dearest first.
// All layers of a kind share one plan: only the pages differ.
class AttentionPlan {
 public:
  struct Item {
    int64_t sequence, row_begin, row_end, head_begin, head_end;
    double cost;
  };
  AttentionPlan(int64_t heads, int64_t kv_heads, AttentionKind kind) : heads_(heads), kv_heads_(kv_heads), kind_(kind) {}
  bool is_for(int64_t heads, AttentionKind kind) const { return heads == heads_ && kind == kind_; }
  void prepare(const Step& whole, int num_workers);
  const std::vector<Item>& items() const { return items_; }

 private:
  // One item a KV head and run of tokens.
  void cut(const Step& step, int64_t tile_tokens);
  void sort();  // the dearest first
  // The last `count` items cut into parts of so many query heads each.
  std::vector<Item> with_last_split(size_t count, int64_t part_heads) const;

  const int64_t heads_, kv_heads_;
  const AttentionKind kind_;
  std::vector<Item> items_;
};

class AttentionOperation final : public Operation {
 public:
  AttentionOperation(const AttentionTask& task, bool windowed, const AttentionPlan& plan)
      : Operation(RowKind::tokens), task_(task), windowed_(windowed), plan_(plan) {}
  std::string name() const override { return "attention"; }
  void prepare(const StepContext& context) override;
  void work(const StepContext& context, int part) noexcept override;

 private:
  const AttentionTask task_;  // all but the step
  const bool windowed_;
  const AttentionPlan& plan_;
  alignas(64) std::atomic<size_t> next_{0};
};

class GatherOperation final : public Operation {
 public:
  GatherOperation(const TensorBuffer& out, const TensorBuffer& x) : Operation(RowKind::logits), out_(out), x_(x) {}
  std::string name() const override { return "gather"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  const TensorBuffer& out_;
  const TensorBuffer& x_;
};

class SampleOperation final : public Operation {
 public:
  // scratch: kScratchRows * logits.stride floats a part
  SampleOperation(const TensorBuffer& logits, int num_parts);
  std::string name() const override { return "sample"; }
  void work(const StepContext& context, int part) noexcept override;

 private:
  const TensorBuffer& logits_;
  Memory scratch_;
};

}  // namespace hokku
