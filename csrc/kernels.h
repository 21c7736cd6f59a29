// The contract of floor 1: what the operations are, how their operands lie in memory, and the table of
// function pointers that one file of csrc/isa/ fills in for one instruction set.
//
// Shapes are written [rows][cols]. T = tokens in this step, N = outputs of a linear, K = its inputs,
// H = query heads, G = key/value heads, D = head size, V = vocabulary.
//
// One rule holds everywhere: a row's result depends on that row alone, and every sum is taken in one fixed order,
// the same on every instruction set. That is what makes tokens independent of batch, chunk, cache and (in the
// integer formats) of the machine's path. Integer sums are exact; float sums run in the order that body/ spells
// out with the 16-lane vector type that every instruction set provides.
#pragma once

#include <cstddef>
#include <cstdint>

// No copy of such a function is ever emitted, so the linker cannot hand one file's AVX-512 code to everybody.
#define HOKKU_INLINE inline __attribute__((always_inline))

namespace hokku {

// 16 floats are one AVX-512 register, two AVX2 registers, four NEON registers; 16 outputs are one block of a
// packed weight and one column block of an AMX tile.
inline constexpr int kLanes = 16;
// Tokens in a page of the key/value pool: one vector of keys.
inline constexpr int kPageTokens = 16;
// Keys that the online softmax takes at a time, by absolute position, so that prefill and decode cut alike.
inline constexpr int kAttentionBlock = 64;
// Directions that a row may have rotary positions in: time, height and width.
inline constexpr int kMostRopeAxes = 3;
// Inputs that share one scale in int4 weights, and in the activations that meet them.
inline constexpr int kGroup = 32;
// Every K is padded to a multiple of this: the depth in bytes of one AMX tile.
inline constexpr int kDepthPad = 64;

// Multiply-adds in flight when their peak is measured: two units of five cycles' latency, and some to spare.
inline constexpr int kFmaChains = 12;

enum class WeightFormat : int32_t { int8 = 0, int4 = 1, bf16 = 2 };
// int8_segment: one scale a segment (meets int8 weights). int8_group: one scale a group of 32 (meets int4 weights).
// bf16: meets bf16 weights.
enum class OperandFormat : int32_t { int8_segment = 0, int8_group = 1, bf16 = 2 };
// How keys and values are stored, and with it how attention multiplies: bf16 in floats, int8 in integers.
enum class KvFormat : int32_t { bf16 = 0, int8 = 1 };

// A packed weight matrix W[N][K], in blocks of 16 outputs. NB = ceil(N/16), KP = K padded to kDepthPad.
//   int8: S segments of KP/S inputs each, a multiple of kDepthPad, that have scales of their own;
//         codes u8 [NB][KP/4][16][4], value = (code - 128) * scale[n][s], code in 1..255 (so -127..127), padding 128;
//         scale f32 [NB][S][16]. The AVX-512 VNNI operand order and the AMX B-tile order at once.
//   int4: codes u8 [NB][KP/32][4][16][4]: byte (j, n, i) of a group holds in its low nibble input 4*j+i and in its
//         high nibble input 16+4*j+i; value = nibble * gscale + gmin;
//         gscale, gmin fp16 [NB][KP/32][16] each; padding has gscale = gmin = 0.
//   bf16: codes u16 [NB][KP/2][16][2] (KP padded to 32 pairs, i.e. kDepthPad inputs), value as stored.
// Rows beyond N have scale 0 (int8, int4) or value 0 (bf16). All pointers are 64-byte aligned.
struct Weight {
  WeightFormat format;
  int64_t rows;   // N
  int64_t cols;   // K
  int64_t depth;  // KP
  int64_t segments;  // S; 1 in other formats than int8
  const uint8_t* codes;
  const float* scale;      // int8
  const uint16_t* gscale;  // int4, fp16 bits
  const uint16_t* gmin;    // int4, fp16 bits
  HOKKU_INLINE int64_t blocks() const { return (rows + kLanes - 1) / kLanes; }
};

// Activations encoded for the linears that read them: [rows][KP], padding zero, rows 64-byte aligned.
// The buffer always holds a multiple of 32 rows so that tile kernels may read (never store) past `rows`.
//   int8_segment: data s8 in -127..127; scale f32 [rows][S]; sum i32 [rows][S] (of the codes: undoes the weights' +128).
//   int8_group:   data s8; scale f32 [rows][KP/32]; sum i32 [rows][KP/32].
//   bf16:         data u16 (bf16 bits) [rows][KP].
struct Operand {
  OperandFormat format;
  int64_t cols;   // K
  int64_t depth;  // KP
  int64_t segments;  // S; 1 in other formats than int8_segment
  uint8_t* data;
  float* scale;
  int32_t* sum;
  HOKKU_INLINE int64_t row_bytes() const { return format == OperandFormat::bf16 ? depth * 2 : depth; }
  // Runs of inputs that have a scale of their own.
  HOKKU_INLINE int64_t groups() const { return format == OperandFormat::int8_group ? depth / kGroup : segments; }
};

// What a linear does with y = a·Wᵀ (+ bias).
//   store:      out[m][n] = y
//   accumulate: out[m][n] += y          (the residual stream)
//   swiglu:     W holds gate and up in alternating blocks of 16 outputs (gate block first);
//               out[m][n] = silu(gate) * up, so out has N/2 columns.
//   gelu:       out[m][n] = gelu(y), in its tanh form
enum class Epilogue : int32_t { store = 0, accumulate = 1, swiglu = 2, gelu = 3 };

// One thread's share of a linear: blocks [block_begin, block_end) of the weight for rows [0, rows).
// For swiglu both bounds are even. Formulas, so that every path gives the same bits:
//   int8: y = 0; for s in order: y = fma(float(dot_s - 128*sum[m][s]) * a.scale[m][s], w.scale[n][s], y);
//         dot_s (of the stored codes) and sum exact int32; then y += bias[n]
//   int4: y = 0; for g in order: y = fma(a.scale[m][g], fma(float(dot_g), gscale[n][g], float(sum[m][g]) * gmin[n][g]),
//         y); then y += bias[n]
//   bf16: float sums in k order; the exact order is the instruction set's own, but never depends on rows.
// Mul and add are separate roundings unless written fma.
struct LinearTask {
  const Operand* a;
  const Weight* w;
  int64_t rows;  // M
  int64_t block_begin;
  int64_t block_end;
  float* out;
  int64_t out_stride;  // floats from row to row; there is room for whole blocks, whose padding comes out as 0
  const float* bias;   // [NB*16] or null
  Epilogue epilogue;
};

// The pages of the key/value pool. Whatever a stale slot holds is finite (a stored NaN becomes 0, infinities the largest
// finite value), so it can never reach another request through 0 * NaN.
// A page's layers lie together: the layers of a page are all written or none is, so a pool that is little used touches
// few (huge) pages of memory.
//   bf16: k: u16 [pages][layers][G][D/2][16 keys][2]    a pair of dimensions of one key is 4 bytes
//         v: u16 [pages][layers][G][8 key pairs][D][2]
//   int8: k: u8 [pages][layers][G][D/4][16 keys][4], value = (code - 128) * k_scale, code in 1..255
//         v: s8 [pages][layers][G][4 key quads][D][4], value = code * 2^v_log_scale, code in -127..127
//         k_scale, v_log_scale: f32 [pages][layers][G][16 keys]
//         The operand order of AVX-512 VNNI and of AMX B-tiles, for Q·Kᵀ and for P·V.
struct PagePool {
  KvFormat format;
  int64_t layers, pages, kv_heads, head_dim;
  uint8_t* k;
  uint8_t* v;
  float* k_scale;      // int8
  float* v_log_scale;  // int8; base 2, which is what the softmax adds to its scores
  HOKKU_INLINE int64_t code_bytes() const { return format == KvFormat::bf16 ? 2 : 1; }
  // Numbers one KV head of layer `layer` and page `page`; a head's codes and scales begin at multiples of it.
  HOKKU_INLINE int64_t place(int64_t layer, int64_t page, int64_t kv_head) const {
    return (page * layers + layer) * kv_heads + kv_head;
  }
  HOKKU_INLINE int64_t head_bytes() const { return head_dim * kPageTokens * code_bytes(); }
  HOKKU_INLINE int64_t num_heads() const { return layers * pages * kv_heads; }  // of all layers and pages
};

// What changes from step to step. Sequence s owns rows [row_start[s], row_start[s+1]), in position order, and the
// pages page_table[s*page_table_stride ...]; key position p of s lives in page p/16, slot p%16.
struct Step {
  int64_t rows;        // T
  int64_t sequences;   // S
  int64_t logit_rows;  // R: rows whose next token is wanted
  const int32_t* tokens;       // [T]
  const int32_t* positions;    // [T]
  const int32_t* row_start;    // [S+1]
  const int32_t* page_table;   // [S][page_table_stride]
  int64_t page_table_stride;
  const int32_t* logit_index;  // [R] row numbers
  // Sampling, one entry a logit row. temperature 0 = greedy. top_k 0 = off. top_p 1 = off.
  const float* temperature;
  const float* top_p;
  const int32_t* top_k;
  const uint64_t* seed;     // the request's seed
  const uint64_t* counter;  // number of tokens sampled before in this request: (seed, counter) names one draw
  const uint32_t* allowed;  // null, or [R][ceil(V/32)] bit masks of tokens that may be drawn
  int32_t* sampled;         // [R] out
  float* logprob;           // [R] out: natural log of the drawn token's probability at temperature 1
  // Rows that no table has, such as those of a picture: a token id -1 - f stands for row f.
  const float* features = nullptr;  // [F][feature_cols]
  int64_t num_features = 0;         // F
  int64_t feature_cols = 0;
  // Where rows stand in more directions than one: rows of the rotary tables; null: those of `positions`.
  const int32_t* rope_positions = nullptr;  // [T][rope_axes]
  int64_t rope_axes = 0;
  // The same rows as other sequences, for the attention that is over windows; null: there are none.
  const Step* windows = nullptr;
};

struct RopeTask {
  const float* qkv;  // [T][(H+2G)*D], biases already added
  float* q;          // [T][H*D] out: rotated, multiplied by q_scale
  const float* q_gain;  // [D] or null: RMS norm over each head before rotation (Qwen3)
  const float* k_gain;
  float eps;
  float q_scale;      // 1/sqrt(D), times what YaRN asks for
  // rotary_dim <= head_dim; pairs are (i, i+rotary_dim/2). 0 rotates nothing.
  int64_t heads, kv_heads, head_dim, rotary_dim;
  const float* cos;   // [max_positions][rotary_dim/2]
  const float* sin;
  int64_t sections[kMostRopeAxes];  // where the step has rope_positions: pairs that turn by each of them, in order
  const PagePool* pool;
  int64_t layer;
  const Step* step;
};

struct AttentionTask {
  const float* q;  // [T][H*D]
  float* out;      // [T][H*D]
  int64_t heads;
  const PagePool* pool;
  int64_t layer;
  bool causal;  // a row sees the keys up to its own position; else all up to its sequence's last one of this step
  const Step* step;
  // The last key position that a row of `sequence` sees.
  HOKKU_INLINE int64_t last_seen(int64_t sequence, int64_t row) const {
    return step->positions[causal ? row : step->row_start[sequence + 1] - 1];
  }
};

// A norm of rows, each run of `run` columns by itself; run divides the rows' columns, and where it is not all of them it
// is a multiple of kLanes.
struct NormTask {
  const float* x;
  int64_t x_stride;
  const float* gain;  // [run]
  const float* bias;  // [run]; null in an RMS norm
  int64_t run;
  float eps;
};

// One instruction set. Row operations take a half-open range of rows: the caller (program.cpp) splits the work.
struct KernelTable {
  const char* name;  // "avx512"
  void (*linear_int8)(const LinearTask&);
  void (*linear_int4)(const LinearTask&);
  void (*linear_bf16)(const LinearTask&);
  // out[r] = row tokens[r] of the table, decoded to float; where that is negative, row -1 - tokens[r] of the features.
  void (*embed)(const Weight& table, const Step& step, float* out, int64_t out_stride, int64_t row_begin,
                int64_t row_end);
  // RMSNorm (Zhang & Sennrich 2019): x * gain / sqrt(mean(x^2) + eps), encoded for the linears that follow.
  void (*rms_norm)(const NormTask&, Operand& out, int64_t row_begin, int64_t row_end);
  // Layer norm (Ba et al. 2016): (x - mean) * gain / sqrt(mean((x - mean)^2) + eps) + bias, encoded likewise.
  void (*layer_norm)(const NormTask&, Operand& out, int64_t row_begin, int64_t row_end);
  void (*encode)(const float* x, int64_t x_stride, Operand& out, int64_t row_begin, int64_t row_end);
  // Rotary embedding of Q and K; K and V written to their pages in the pool's format.
  void (*rope_and_store)(const RopeTask&, int64_t row_begin, int64_t row_end);
  // Rows [row_begin, row_end) of the step, all of one sequence, and query heads [head_begin, head_end).
  void (*attention)(const AttentionTask&, int64_t sequence, int64_t row_begin, int64_t row_end, int64_t head_begin,
                    int64_t head_end);
  // Draws one token for each logit row in [begin, end). logits [R][stride], V valid columns.
  // scratch: 4 * stride floats of the calling thread.
  void (*sample)(const Step&, const float* logits, int64_t stride, int64_t vocabulary, float* scratch, int64_t begin,
                 int64_t end);
  // Ceilings to hold the others against: reading memory, and multiply-adds in registers.
  float (*read_all)(const float* x, int64_t count);
  float (*multiply_add)(int64_t rounds);
};

}  // namespace hokku
