// Stop 8 of a request's walk through the house: the linears y = a·Wᵀ, where nearly all the arithmetic is. A request
// comes here from models/*.py by way of program.cpp, and its logits go back up the same way.
//
// This file holds what every instruction set shares: how a task is cut into register tiles, the formulas that turn
// dots into outputs, and the epilogues. The innermost loops come from isa/linear_<isa>.inl, which is included
// next and names three types to `linear_int8`, `linear_int4` and `linear_bf16`:
//
//   Int8Tile   kRows, kBlocks: the largest register tile. kCodeZero: 128 if its dots are over the stored codes, 0 if
//              over code - 128. dots<R, B>(a, a_stride, w, w_stride, depth, ahead, dots): int32 [R][B][16].
//   Int4Tile   kRows, kBlocks: rows and blocks multiplied at a time. Codes: a group of a block, a byte a code, made by
//              unpack(w, codes). dots<R, B>(a, a_stride, codes, dots): I16 [R][B], dots of one group.
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
      switch (task.epilogue) {
        case Epilogue::accumulate: store(block_out, add(load(block_out), value)); break;
        case Epilogue::gelu: store(block_out, gelu(value)); break;
        default: store(block_out, value);
      }
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

constexpr int64_t kInt4GroupBytes = kLanes * kGroup / 2;
// Up to so many rows memory sets the pace.
constexpr int kInt4StreamRows = 4;
// Their codes are asked for so early: measured best of 2, 4, 8 and 16 KiB on Zen 5.
constexpr int64_t kInt4AheadBytes = 8192;
// More rows share the unpacking of a group, up to this number: their outputs then fill an eighth of the first-level
// cache, and unpacking costs a fiftieth of multiplying.
constexpr int kInt4PanelRows = 48;

// One group of inputs of B blocks: codes as the tile wants them, scales and minima widened.
template <class Tile, int B>
struct Int4Group {
  typename Tile::Codes codes[B];
  V16 scale[B], min[B];
};

template <class Tile, int B>
HOKKU_INLINE void load_group(const Weight& w, int64_t block, int64_t g, Int4Group<Tile, B>& group) {
  HOKKU_UNROLL
  for (int b = 0; b < B; ++b) {
    const int64_t at = (block + b) * (w.depth / kGroup) + g;
    Tile::unpack(w.codes + at * kInt4GroupBytes, group.codes[b]);
    group.scale[b] = load_f16(w.gscale + at * kLanes);
    group.min[b] = load_f16(w.gmin + at * kLanes);
  }
}

// What a row brings to its products with a group: the scale of its 32 codes, and their sum.
struct Int4Row {
  V16 scale, sum;
};

HOKKU_INLINE Int4Row load_row(const Operand& a, int64_t row, int64_t g) {
  const int64_t at = row * a.groups() + g;
  return {set1(a.scale[at]), to_float(set1(a.sum[at]))};
}

// What one group adds to 16 outputs y of a row: kernels.h has the formula.
HOKKU_INLINE V16 add_products(V16 y, I16 dots, Int4Row row, V16 gscale, V16 gmin) {
  return fma(row.scale, fma(to_float(dots), gscale, mul(row.sum, gmin)), y);
}

template <class Tile, int R, int B>
HOKKU_INLINE void multiply_group(const Operand& a, int64_t row, int64_t g, const Int4Group<Tile, B>& group,
                                 I16 (&dots)[R][B]) {
  const auto* codes = reinterpret_cast<const int8_t*>(a.data) + row * a.depth + g * kGroup;
  Tile::template dots<R, B>(codes, a.depth, group.codes, dots);
}

// A step of few rows: one block after the other, so that the weights are ascending streams, with outputs in registers.
template <class Tile>
struct Int4Stream {
  static constexpr int kRows = kInt4StreamRows;
  static constexpr int kBlocks = 2;

  template <int R, int B>
  static void run(const LinearTask& task, int64_t row, int64_t block) {
    alignas(64) float y[R * B * kLanes];
    for (int b = 0; b < B; ++b) multiply_block<R>(task, row, block + b, y + b * kLanes, B * kLanes);
    write_outputs(task, {row, R, block, B}, y);
  }

 private:
  template <int R>
  HOKKU_INLINE static void multiply_block(const LinearTask& task, int64_t row, int64_t block, float* out,
                                          int64_t out_stride) {
    const int64_t groups = task.a->groups();
    V16 y[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) y[r] = set1(0.0f);
    for (int64_t g = 0; g < groups; ++g) {
      fetch_ahead(*task.w, block * groups + g);
      Int4Group<Tile, 1> group;
      load_group<Tile, 1>(*task.w, block, g, group);
      I16 dots[R][1];
      multiply_group<Tile, R, 1>(*task.a, row, g, group, dots);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        y[r] = add_products(y[r], dots[r][0], load_row(*task.a, row + r, g), group.scale[0], group.min[0]);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) store(out + r * out_stride, y[r]);
  }

  HOKKU_INLINE static void fetch_ahead(const Weight& w, int64_t group) {
    const int64_t ahead = group + kInt4AheadBytes / kInt4GroupBytes;
    HOKKU_UNROLL
    for (int i = 0; i < kInt4GroupBytes / 64; ++i) __builtin_prefetch(w.codes + ahead * kInt4GroupBytes + i * 64);
    __builtin_prefetch(w.gscale + ahead * kLanes);
    __builtin_prefetch(w.gmin + ahead * kLanes);
  }
};

// More rows: a group is unpacked once, then all rows of the panel meet it; y holds their outputs [rows][blocks][16].
template <class Tile>
struct Int4Rows {
  static constexpr int kRows = Tile::kRows;

  template <int B>
  HOKKU_INLINE static void multiply(const LinearTask& task, TilePlace place, int64_t g, float* y) {
    constexpr int kTogether = B < Tile::kBlocks ? B : Tile::kBlocks;
    for (int b = 0; b < B; b += kTogether) {
      Int4Group<Tile, kTogether> group;
      load_group<Tile, kTogether>(*task.w, place.block + b, g, group);
      float* out = y + b * kLanes;
      int64_t r = 0;
      for (; r + kRows <= place.rows; r += kRows) add<kRows>(*task.a, place.row + r, g, group, out + r * B * kLanes, B);
      if constexpr (kRows > 1) {
        add_rest<kRows - 1>(place.rows - r, *task.a, place.row + r, g, group, out + r * B * kLanes, B);
      }
    }
  }

 private:
  // Fewer rows than kRows, or none.
  template <int R, int B>
  HOKKU_INLINE static void add_rest(int64_t rows, const Operand& a, int64_t row, int64_t g,
                                    const Int4Group<Tile, B>& group, float* y, int64_t y_blocks) {
    if (rows == R) return add<R>(a, row, g, group, y, y_blocks);
    if constexpr (R > 1) add_rest<R - 1>(rows, a, row, g, group, y, y_blocks);
  }

  // R rows from `row` on; their outputs lie `y_blocks` blocks apart.
  template <int R, int B>
  HOKKU_INLINE static void add(const Operand& a, int64_t row, int64_t g, const Int4Group<Tile, B>& group, float* y,
                               int64_t y_blocks) {
    I16 dots[R][B];
    multiply_group<Tile, R, B>(a, row, g, group, dots);
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r, y += y_blocks * kLanes) {
      const Int4Row factors = load_row(a, row + r, g);
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) {
        float* out = y + b * kLanes;
        store(out, add_products(load(out), dots[r][b], factors, group.scale[b], group.min[b]));
      }
    }
  }
};

// Rows of a panel and B blocks, group by group.
template <class Rows, int B>
void run_panel(const LinearTask& task, TilePlace place) {
  alignas(64) float y[kInt4PanelRows * B * kLanes];
  __builtin_memset(y, 0, static_cast<size_t>(place.rows * B * kLanes) * sizeof(float));
  const int64_t groups = task.a->groups();
  Ahead ahead = look_ahead(task, place.row, place.rows, place.block, B, groups * kInt4GroupBytes);
  for (int64_t g = 0; g < groups; ++g) {
    HOKKU_UNROLL
    for (int i = 0; i < kInt4GroupBytes / 64; ++i) ahead.fetch<B>(groups * kInt4GroupBytes);
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      const int64_t next = ((place.block + B + b) * groups + g) * kLanes;
      __builtin_prefetch(task.w->gscale + next, 0, 2);
      __builtin_prefetch(task.w->gmin + next, 0, 2);
    }
    Rows::template multiply<B>(task, place, g, y);
  }
  write_outputs(task, place, y);
}

// Rows [row_begin, row_end) against every block from `block` on, in panels of like height.
template <class Rows, int B>
void run_panels(const LinearTask& task, int64_t row_begin, int64_t row_end, int64_t block) {
  const int64_t panels = (row_end - row_begin + kInt4PanelRows - 1) / kInt4PanelRows;
  const int64_t even = (row_end - row_begin + panels - 1) / panels;
  const int64_t height = (even + Rows::kRows - 1) / Rows::kRows * Rows::kRows;
  for (; block + B <= task.block_end; block += B) {
    for (int64_t row = row_begin; row < row_end; row += height) {
      run_panel<Rows, B>(task, {row, row + height < row_end ? height : row_end - row, block, B});
    }
  }
  if constexpr (B > 1) run_panels<Rows, B / 2>(task, row_begin, row_end, block);
}

template <class Rows>
void run_int4_panels(const LinearTask& task) {
  static_assert(kInt4PanelRows % Rows::kRows == 0, "a panel's height must not be rounded beyond its outputs");
  const int64_t chunk = (kRowChunkBytes / task.a->row_bytes() / kInt4PanelRows + 1) * kInt4PanelRows;
  for (int64_t row = 0; row < task.rows; row += chunk) {
    run_panels<Rows, 2>(task, row, row + chunk < task.rows ? row + chunk : task.rows, task.block_begin);
  }
}

template <class Tile>
void run_int4(const LinearTask& task) {
  if (task.rows <= kInt4StreamRows) return run_linear<Int4Stream<Tile>>(task);
  run_int4_panels<Int4Rows<Tile>>(task);
}

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
