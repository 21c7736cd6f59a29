// Stop 8 of a request's walk through the house: the linears y = a·Wᵀ, where nearly all the arithmetic is. A request
// comes here from models/*.py by way of program.cpp, and its logits go back up the same way.
//
// This file holds what every instruction set shares: how a task is cut into register tiles, the formulas that turn
// dots into outputs, and the three epilogues. The innermost loops come from isa/linear_<isa>.inl, which is included
// next and names three types to `linear_int8`, `linear_int4` and `linear_bf16`:
//
//   Int8Tile   kRows, kBlocks: the largest register tile. kCodeZero: 128 if its dots are over the stored codes, 0 if
//              over code - 128. dots<R, B>(a, a_stride, w, w_stride, depth, ahead, dots): int32 [R][B][16].
//   Int4Tile   kRows, kBlocks. group<R, B>(a, a_stride, w, w_stride, ahead, dots): I16 [R][B], dots of one group.
//   Bf16Tile   kRows, kBlocks. outputs<R, B>(a, a_stride, w, w_stride, depth, ahead, y): V16 [R][B].
//
// R rows and B blocks are template arguments, so that every accumulator is a register. Strides are in elements.

// Rows whose activations stay in the second-level cache (1 or 2 MB a core) while every panel of weights passes by.
constexpr int64_t kRowChunkBytes = 512 * 1024;
// Inputs whose codes for one output lie side by side: 64 bytes hold so many of a block's 16 outputs.
constexpr int kQuad = 4;

// Loops over a tile are unrolled whole before anything else, so that arrays of vectors become registers.
#if defined(__clang__)
#define HOKKU_UNROLL _Pragma("unroll")
#else
#define HOKKU_UNROLL _Pragma("GCC unroll 8")
#endif

// ---- From outputs to memory ----

// What a tile hands over: outputs [rows][blocks][16] of the task's rows from `row` and blocks from `block`.
struct TilePlace {
  int64_t row;
  int64_t rows;
  int64_t block;
  int64_t blocks;
};

// Bias, then the epilogue. For swiglu, place.block and place.blocks are even. Changes y. Never inlined: one copy serves
// every tile.
[[gnu::noinline]] void write_outputs(const LinearTask& task, TilePlace place, float* y) {
  for (int64_t r = 0; r < place.rows; ++r, y += place.blocks * kLanes) {
    float* out = task.out + (place.row + r) * task.out_stride;
    for (int64_t b = 0; task.bias && b < place.blocks; ++b) {
      store(y + b * kLanes, add(load(y + b * kLanes), load(task.bias + (place.block + b) * kLanes)));
    }
    if (task.epilogue == Epilogue::swiglu) {
      for (int64_t b = 0; b < place.blocks; b += 2) {
        const V16 gate = load(y + b * kLanes), up = load(y + (b + 1) * kLanes);
        store(out + (place.block + b) / 2 * kLanes, mul(silu(gate), up));
      }
      continue;
    }
    for (int64_t b = 0; b < place.blocks; ++b) {
      float* block_out = out + (place.block + b) * kLanes;
      const V16 value = load(y + b * kLanes);
      store(block_out, task.epilogue == Epilogue::accumulate ? add(load(block_out), value) : value);
    }
  }
}

// ---- From a task to register tiles ----

// The panel of weights that comes after the one being multiplied. Its codes are asked for while the multipliers work,
// each tile of a panel asking for its share: whoever waits for memory only at a panel's start waits in vain.
struct Ahead {
  const uint8_t* codes;  // of the next panel's first block, where this tile's share begins
  int64_t step;          // bytes asked for per 64 bytes read

  // To be called once for every 64 bytes that the tile reads of each of its B blocks.
  template <int B>
  HOKKU_INLINE void fetch(int64_t block_bytes) {
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) __builtin_prefetch(codes + b * block_bytes, 0, 2);
    codes += step;
  }
};

// After the last panel there is nothing to ask for; its own codes, already near, stand in.
HOKKU_INLINE Ahead look_ahead(const LinearTask& task, int64_t row, int64_t rows, int64_t block, int64_t blocks,
                              int64_t block_bytes) {
  if (block + 2 * blocks > task.block_end) return {task.w->codes + block * block_bytes, 0};
  const uint8_t* next = task.w->codes + (block + blocks) * block_bytes;
  return {next + row * block_bytes / task.rows, 64 * rows / task.rows};
}

// One tile, its height known at run time: the compiled heights are tried from the largest down.
template <class Body, int R, int B>
HOKKU_INLINE void run_tile(const LinearTask& task, int64_t rows, int64_t row, int64_t block) {
  if (rows == R) return Body::template run<R, B>(task, row, block);
  if constexpr (R > 1) run_tile<Body, R - 1, B>(task, rows, row, block);
}

// All rows of a chunk against B blocks. The last two tiles share what is left evenly: 4 + 3 rows keep more
// accumulators busy than 6 + 1.
template <class Body, int B>
void run_rows(const LinearTask& task, int64_t row_begin, int64_t row_end, int64_t block) {
  for (int64_t row = row_begin; row < row_end;) {
    const int64_t left = row_end - row;
    const int64_t rows = left >= 2 * Body::kRows || left == Body::kRows ? Body::kRows
                         : left > Body::kRows                           ? (left + 1) / 2
                                                                        : left;
    run_tile<Body, Body::kRows, B>(task, rows, row, block);
    row += rows;
  }
}

template <class Body, int B>
void run_blocks(const LinearTask& task, int64_t row_begin, int64_t row_end, int64_t block) {
  for (; block + B <= task.block_end; block += B) run_rows<Body, B>(task, row_begin, row_end, block);
  if constexpr (B > 1) run_blocks<Body, B / 2>(task, row_begin, row_end, block);
}

// Panels of weights in the middle loop, rows in the inner one: a panel is read from memory once a chunk of rows.
template <class Body>
void run_linear(const LinearTask& task) {
  static_assert(Body::kBlocks % 2 == 0, "a tile must hold gate and up together");
  const int64_t chunk = kRowChunkBytes / task.a->row_bytes() / Body::kRows * Body::kRows + Body::kRows;
  for (int64_t row = 0; row < task.rows; row += chunk) {
    const int64_t row_end = row + chunk < task.rows ? row + chunk : task.rows;
    run_blocks<Body, Body::kBlocks>(task, row, row_end, task.block_begin);
  }
}

template <int R, int B>
HOKKU_INLINE void write_registers(const LinearTask& task, int64_t row, int64_t block, const V16 (&y)[R][B]) {
  alignas(64) float outputs[R * B * kLanes];
  HOKKU_UNROLL
  for (int r = 0; r < R; ++r) {
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) store(outputs + (r * B + b) * kLanes, y[r][b]);
  }
  write_outputs(task, {row, R, block, B}, outputs);
}

// ---- int8 ----

// A segment's dots [rows][B][16], scaled and added to y of the same shape, which the first segment begins. `code_zero` is
// what the codes stand above their values. Never inlined: next to accumulators the compiler would spill those.
template <int B>
[[gnu::noinline]] void add_segment(const LinearTask& task, TilePlace place, int64_t segment, const int32_t* dots,
                                   int32_t code_zero, float* y) {
  const Operand& a = *task.a;
  const float* sixteen = task.w->scale + (place.block * a.segments + segment) * kLanes;
  V16 weight_scale[B];
  HOKKU_UNROLL
  for (int b = 0; b < B; ++b) {
    weight_scale[b] = load(sixteen + b * a.segments * kLanes);
    __builtin_prefetch(sixteen + (B + b) * a.segments * kLanes);  // the next panel's
  }
  for (int64_t r = 0; r < place.rows; ++r, dots += B * kLanes, y += B * kLanes) {
    const int64_t at = (place.row + r) * a.segments + segment;
    const I16 above = set1(code_zero * a.sum[at]);
    const V16 row_scale = set1(a.scale[at]);
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      const V16 before = segment == 0 ? set1(0.0f) : load(y + b * kLanes);
      const V16 scaled = mul(to_float(sub(load(dots + b * kLanes), above)), row_scale);
      store(y + b * kLanes, fma(scaled, weight_scale[b], before));
    }
  }
}

template <class Tile>
struct Int8Body {
  static constexpr int kRows = Tile::kRows;
  static constexpr int kBlocks = Tile::kBlocks;

  template <int R, int B>
  static void run(const LinearTask& task, int64_t row, int64_t block) {
    const Operand& a = *task.a;
    const int64_t length = a.depth / a.segments, panel = a.depth * kLanes;
    const auto* codes = reinterpret_cast<const int8_t*>(a.data) + row * a.depth;
    const uint8_t* weights = task.w->codes + block * panel;
    const TilePlace place = {row, R, block, B};
    Ahead ahead = look_ahead(task, row, R, block, B, panel);
    alignas(64) int32_t dots[R * B * kLanes];
    alignas(64) float y[R * B * kLanes];
    for (int64_t s = 0; s < a.segments; ++s) {
      Tile::template dots<R, B>(codes + s * length, a.depth, weights + s * length * kLanes, panel, length, ahead, dots);
      add_segment<B>(task, place, s, dots, Tile::kCodeZero, y);
      ahead.codes += length / kQuad * ahead.step;
    }
    write_outputs(task, place, y);
  }
};

// ---- int4 ----

template <class Tile>
struct Int4Body {
  static constexpr int kRows = Tile::kRows;
  static constexpr int kBlocks = Tile::kBlocks;
  static constexpr int64_t kGroupBytes = kLanes * kGroup / 2;

  template <int R, int B>
  static void run(const LinearTask& task, int64_t row, int64_t block) {
    const Operand& a = *task.a;
    const int64_t groups = a.groups();
    const auto* codes = reinterpret_cast<const int8_t*>(a.data) + row * a.depth;
    const uint8_t* nibbles = task.w->codes + block * groups * kGroupBytes;
    const float* scale = a.scale + row * groups;
    const int32_t* sum = a.sum + row * groups;
    V16 y[R][B];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) y[r][b] = set1(0.0f);
    }
    Ahead ahead = look_ahead(task, row, R, block, B, groups * kGroupBytes);
    for (int64_t g = 0; g < groups; ++g) {
      I16 dots[R][B];
      Tile::template group<R, B>(codes + g * kGroup, a.depth, nibbles + g * kGroupBytes, groups * kGroupBytes, ahead,
                                 dots);
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) {
        const int64_t at = ((block + b) * groups + g) * kLanes;
        const int64_t next_panel = B * groups * kLanes;
        __builtin_prefetch(task.w->gscale + at + next_panel);
        __builtin_prefetch(task.w->gmin + at + next_panel);
        const V16 gscale = load_f16(task.w->gscale + at);
        const V16 gmin = load_f16(task.w->gmin + at);
        HOKKU_UNROLL
        for (int r = 0; r < R; ++r) {
          const V16 step = set1(scale[r * groups + g]);
          y[r][b] = fma(to_float(dots[r][b]), mul(step, gscale), y[r][b]);
          y[r][b] = fma(set1(static_cast<float>(sum[r * groups + g])), mul(step, gmin), y[r][b]);
        }
      }
    }
    write_registers(task, row, block, y);
  }
};

// ---- bf16 ----

template <class Tile>
struct Bf16Body {
  static constexpr int kRows = Tile::kRows;
  static constexpr int kBlocks = Tile::kBlocks;

  template <int R, int B>
  static void run(const LinearTask& task, int64_t row, int64_t block) {
    const int64_t depth = task.a->depth;
    const int64_t panel = depth * kLanes;
    V16 y[R][B];
    Tile::template outputs<R, B>(reinterpret_cast<const uint16_t*>(task.a->data) + row * depth, depth,
                                 reinterpret_cast<const uint16_t*>(task.w->codes) + block * panel, panel, depth,
                                 look_ahead(task, row, R, block, B, 2 * panel), y);
    write_registers(task, row, block, y);
  }
};

// Products and sums in float, one chain an output, k ascending: for every instruction set without bf16 arithmetic.
template <int Rows, int Blocks>
struct FloatBf16Tile {
  static constexpr int kRows = Rows;
  static constexpr int kBlocks = Blocks;

  template <int R, int B>
  HOKKU_INLINE static void outputs(const uint16_t* a, int64_t a_stride, const uint16_t* w, int64_t w_stride,
                                   int64_t depth, Ahead ahead, V16 (&y)[R][B]) {
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) y[r][b] = set1(0.0f);
    }
    for (int64_t k = 0; k < depth; k += 2) {
      ahead.fetch<B>(2 * w_stride);
      V16 even[B], odd[B];
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) load_bf16_pairs(w + b * w_stride + k * kLanes, even[b], odd[b]);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const V16 a_even = set1(bf16_value(a[r * a_stride + k]));
        const V16 a_odd = set1(bf16_value(a[r * a_stride + k + 1]));
        HOKKU_UNROLL
        for (int b = 0; b < B; ++b) y[r][b] = fma(odd[b], a_odd, fma(even[b], a_even, y[r][b]));
      }
    }
  }

  HOKKU_INLINE static float bf16_value(uint16_t bits) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }
};
