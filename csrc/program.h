// A forward pass, recorded once and run once a step by all workers of a thread pool.
//
// Recording checks every dimension and copies small vectors (gains, biases); weights and rotary tables stay the
// caller's and must outlive the program. `run` checks the step's indices, then nothing can fail any more.
// Bad arguments throw std::invalid_argument, whose message begins with the argument's name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "threads.h"

namespace hokku {

// The pages of keys and values, with the memory behind them.
class PageMemory {
 public:
  PageMemory(int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim, KvFormat format);
  const PagePool& view() const { return view_; }
  size_t num_bytes() const { return k_.bytes() + v_.bytes() + k_scale_.bytes() + v_log_scale_.bytes(); }
  // Bytes of one page, all layers together: codes of keys, codes of values, in int8 their scales.
  int64_t page_bytes() const { return static_cast<int64_t>(num_bytes()) / view_.pages; }
  // Copy whole pages out, or in, one after the other in the order of `ids`; no step may run meanwhile.
  void read(const int32_t* ids, int64_t count, uint8_t* out) const;
  void write(const int32_t* ids, int64_t count, const uint8_t* in);

 private:
  // Calls visit(piece of a page, its bytes) for every array that has a share of each page, once all ids are known to be
  // good.
  template <class Visit>
  void for_each_piece(const int32_t* ids, int64_t count, const Visit& visit) const;
  Memory k_, v_, k_scale_, v_log_scale_;
  PagePool view_;
};

enum class RowKind : int32_t { tokens = 0, logits = 1 };

struct TensorBuffer {
  int64_t cols;
  int64_t stride;  // cols padded to whole vectors
  RowKind kind;
  Memory memory;
  float* data() const { return memory.as<float>(); }
};

struct OperandBuffer {
  Operand view;
  RowKind kind;
  Memory data, scale, sum;
};

// Rotary tables [positions][rotary_dim/2] and the factor of q.
struct RopeTables {
  const float* cos;
  const float* sin;
  int64_t positions;
  int64_t rotary_dim;
  float q_scale;
  std::vector<int64_t> sections = {};  // pairs that turn by each of a row's rope_positions; none: by its position
};

// Which keys of which sequences a row sees.
struct AttentionKind {
  bool causal;    // those up to its own position; else all
  bool windowed;  // sequences are the step's windows
  bool operator==(const AttentionKind&) const = default;
};

class Operation;
class AttentionPlan;

class Program {
 public:
  Program(int64_t max_rows, int64_t max_logit_rows, std::shared_ptr<PageMemory> pool,
          std::shared_ptr<ThreadPool> threads, const KernelTable& table);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  // Recording. Buffers are named by the numbers that `tensor` and `operand` return.
  int tensor(int64_t cols, RowKind kind);
  // For activations that meet weights of this format and number of segments.
  int operand(int64_t cols, WeightFormat weights, int64_t segments, RowKind kind);
  void embed(int out, const Weight& table);
  void features(int out);
  // A gain (and bias) for a part of x's columns: each run of so many is normalised by itself.
  void rms_norm(int out, int x, const float* gain, int64_t num_gains, float eps);
  void layer_norm(int out, int x, const float* gain, int64_t num_gains, const float* bias, float eps);
  void encode(int out, int x);
  void linear(int out, int a, const Weight& w, const float* bias, int64_t num_biases, bool accumulate);
  void linear_swiglu(int out, int a, const Weight& w, const float* bias, int64_t num_biases);
  void linear_gelu(int out, int a, const Weight& w, const float* bias, int64_t num_biases);
  // Gains [head_dim], or null.
  void rope_and_store(int q, int qkv, const RopeTables& rope, int64_t layer, const float* q_gain,
                      const float* k_gain, float eps, bool windowed);
  void attention(int out, int q, int64_t layer, AttentionKind kind);
  // With a multiple of x's columns, a row of out takes as many rows of x, from the one that is gathered on.
  void gather(int out, int x);
  void sample(int logits);

  void run(const Step& step);

  // From now on every run is timed, operation by operation, as its first worker sees it: the operation and the wait
  // for the last worker to end it.
  void time_operations() { is_timed_ = true; }
  struct TimedOperation {
    std::string name;
    double seconds;
  };
  // Those of the last run, in their order.
  const std::vector<TimedOperation>& timings() const { return timings_; }

  const TensorBuffer& buffer(int tensor) const;
  // Rows that `buffer` holds since the last run.
  int64_t num_rows(RowKind kind) const { return kind == RowKind::tokens ? last_rows_ : last_logit_rows_; }
  int64_t vocabulary() const { return vocabulary_; }
  const KernelTable& table() const { return table_; }

 private:
  TensorBuffer& tensor_of(int number, const char* name);
  OperandBuffer& operand_of(int number, const char* name);
  void add_linear(TensorBuffer& out, const OperandBuffer& a, const Weight& w, const float* bias, int64_t num_biases,
                  Epilogue epilogue);
  float* copy(const float* values, int64_t count, int64_t padded);
  AttentionPlan& plan_for(int64_t heads, AttentionKind kind);
  void add_norm(int out, int x, const float* gain, int64_t num_gains, const float* bias, float eps);
  // Notes that an operation takes the step's features as rows of so many columns.
  void take_features(int64_t cols);
  void check(const Step& step) const;
  void check_tokens(const Step& step) const;
  void check_sequences(const Step& step) const;
  void check_rope_positions(const Step& step) const;
  void check_sampling(const Step& step) const;

  const int64_t max_rows_, max_logit_rows_;
  const std::shared_ptr<PageMemory> pool_;
  const std::shared_ptr<ThreadPool> threads_;
  const KernelTable& table_;
  std::vector<std::unique_ptr<TensorBuffer>> tensors_;
  std::vector<std::unique_ptr<OperandBuffer>> operands_;
  std::vector<Memory> copies_;
  std::vector<std::unique_ptr<AttentionPlan>> plans_;
  std::vector<std::unique_ptr<Operation>> operations_;
  int64_t max_positions_, num_embeddings_, vocabulary_ = 0;  // what the recording allows a step's indices to be
  // Of the features that a step may bring. 0: nobody takes any. -1: wanted in several widths, so none will do.
  int64_t feature_cols_ = 0;
  bool has_feature_rows_ = false;   // `features` is recorded: one for each token, and tokens stand for nothing else
  int64_t most_joined_rows_ = 1;  // that `gather` joins
  int64_t rope_axes_ = 0;         // that the step's rope_positions may have; 0: it must bring none
  bool has_windows_ = false;      // the step must bring them
  int64_t last_rows_ = 0, last_logit_rows_ = 0;
  bool is_timed_ = false;
  std::vector<TimedOperation> timings_;
};

}  // namespace hokku
