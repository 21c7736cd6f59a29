// int4 on tiles: a group's dots are one tile product of half depth, and its scales are the vectors' work.
//
// Tile registers:  0 1   dots of the upper 16 rows, blocks 0 and 1      4   activations, upper rows    6   block 0
//                  2 3   dots of the lower 16 rows                      5   activations, lower rows    7   block 1
// 32 inputs are 32 bytes of a row and, unpacked, 8 rows of a block.

constexpr TileConfig kAmxInt4Tiles = {
    1,  // palette
    0,
    {},
    {64, 64, 64, 64, kGroup, kGroup, 64, 64},
    {kAmxRows, kAmxRows, kAmxRows, kAmxRows, kAmxRows, kAmxRows, kGroup / 4, kGroup / 4},
};

// Below this many rows VNNI does it; the bits are the same. Not measured: counted in cycles of Sapphire Rapids, 12
// rows of two blocks take VNNI some 150 (25 instructions of two ports a row), tiles some 80 for the vectors' share and,
// where nothing overlaps, 70 more for a product's latency and the store of its dots.
constexpr int64_t kMinInt4TileRows = 12;

struct AmxInt4Rows {
  static constexpr int kRows = kAmxRows;

  template <int B>
  HOKKU_INLINE static void multiply(const LinearTask& task, TilePlace place, int64_t g, float* y) {
    alignas(64) uint8_t codes[B][kGroup * kLanes];
    V16 scale[B], min[B];
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      Int4Group<Avx512Int4Tile, 1> group;
      load_group<Avx512Int4Tile, 1>(*task.w, place.block + b, g, group);
      __builtin_memcpy(codes[b], &group.codes[0], sizeof codes[b]);
      scale[b] = group.scale[0];
      min[b] = group.min[0];
    }
    tile_load<6>(codes[0], kAmxRowBytes);
    if constexpr (B == 2) tile_load<7>(codes[1], kAmxRowBytes);
    // The last tile may read rows beyond the task's, which operands always hold, but none is written.
    for (int64_t r = 0; r < place.rows; r += 2 * kAmxRows) {
      const int64_t left = place.rows - r, rows = left < 2 * kAmxRows ? left : 2 * kAmxRows;
      alignas(64) int32_t dots[2 * kAmxRows * B * kLanes];
      if (rows > kAmxRows) {
        multiply_tiles<2, B>(*task.a, place.row + r, g, dots);
      } else {
        multiply_tiles<1, B>(*task.a, place.row + r, g, dots);
      }
      add_rows<B>(*task.a, place.row + r, rows, g, dots, scale, min, y + r * B * kLanes);
    }
  }

 private:
  // Dots [16 R][B][16] of one group.
  template <int R, int B>
  HOKKU_INLINE static void multiply_tiles(const Operand& a, int64_t row, int64_t g, int32_t* dots) {
    const uint8_t* data = a.data + row * a.depth + g * kGroup;
    auto* sums = reinterpret_cast<uint8_t*>(dots);
    load_sums<R, B>(sums, true);
    tile_load<4>(data, a.depth);
    tile_multiply_s8u8<0, 4, 6>();
    if constexpr (B == 2) tile_multiply_s8u8<1, 4, 7>();
    if constexpr (R == 2) {
      tile_load<5>(data + kAmxRows * a.depth, a.depth);
      tile_multiply_s8u8<2, 5, 6>();
      if constexpr (B == 2) tile_multiply_s8u8<3, 5, 7>();
    }
    store_sums<R, B>(sums);
  }

  template <int B>
  HOKKU_INLINE static void add_rows(const Operand& a, int64_t row, int64_t rows, int64_t g, const int32_t* dots,
                                    const V16 (&scale)[B], const V16 (&min)[B], float* y) {
    for (int64_t r = 0; r < rows; ++r) {
      const Int4Row factors = load_row(a, row + r, g);
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b, dots += kLanes, y += kLanes) {
        store(y, add_products(load(y), load(dots), factors, scale[b], min[b]));
      }
    }
  }
};

void linear_int4(const LinearTask& task) {
  if (task.rows < kMinInt4TileRows) return run_int4<Avx512Int4Tile>(task);
  tile_configure(kAmxInt4Tiles);
  run_int4_panels<AmxInt4Rows>(task);
  tile_release();
}
