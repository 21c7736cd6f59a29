// The linears of the amx path, on tiles (int4: linear_amx_int4.inl). int8 and bf16 are one kernel, because
// 64 bytes of a row meet 1024 bytes of a block in both: 16 groups of inputs × 16 outputs × 4 bytes.
//
// Tile registers:  0 1   sums of the upper 16 rows, blocks 0 and 1      4   activations, upper rows    6   block 0
//                  2 3   sums of the lower 16 rows                      5   activations, lower rows    7   block 1
// Four products reuse each of four loads, so that the first-level cache can feed the multiplier.
#include "isa/linear_vnni.inl"
#ifdef HOKKU_EMULATED_TILES
#include "body/tiles_emulated.inl"
#else
#include "body/tiles_native.inl"
#endif

constexpr int kAmxRows = 16;
constexpr int kAmxRowBytes = 64;
constexpr int kAmxTileBytes = kAmxRows * kAmxRowBytes;
constexpr TileConfig kAmxTiles = {
    1,  // palette
    0,
    {},
    {kAmxRowBytes, kAmxRowBytes, kAmxRowBytes, kAmxRowBytes, kAmxRowBytes, kAmxRowBytes, kAmxRowBytes, kAmxRowBytes},
    {kAmxRows, kAmxRows, kAmxRows, kAmxRows, kAmxRows, kAmxRows, kAmxRows, kAmxRows},
};

// Bytes of a row taken at a time, so that two blocks' worth (32 KiB) stay in the first-level cache (48 KiB) while the
// rows pass by; sums wait in memory between one slice of the depth and the next.
constexpr int64_t kSliceBytes = 1024;
constexpr int64_t kMaxChunkRows = 512;
constexpr int64_t kChunkSums = kMaxChunkRows * 2 * kLanes;  // of a chunk and two blocks

// Below this many rows a tile's empty rows cost more than VNNI's narrower products; the integers are the same.
constexpr int64_t kMinInt8TileRows = 4;

struct AmxInt8 {
  template <int C, int A, int B>
  HOKKU_INLINE static void multiply() {
    tile_multiply_s8u8<C, A, B>();
  }
  template <int B>
  static void end_segment(const LinearTask& task, TilePlace place, int64_t segment, uint8_t* sums, float* y) {
    add_segment<B>(task, place, segment, reinterpret_cast<const int32_t*>(sums), 128, y);
    if (segment + 1 == task.a->segments) write_outputs(task, place, y);
  }
};

struct AmxBf16 {
  template <int C, int A, int B>
  HOKKU_INLINE static void multiply() {
    tile_multiply_bf16<C, A, B>();
  }
  template <int B>
  static void end_segment(const LinearTask& task, TilePlace place, int64_t, uint8_t* sums, float*) {
    write_outputs(task, place, reinterpret_cast<float*>(sums));
  }
};

// A slice of a segment: bytes [begin, end) of every row.
struct Slice {
  int64_t begin;
  int64_t end;
  bool first;  // of its segment
  bool last;
};

// The sums of R row tiles and B blocks lie as [16 R][B][16] 4-byte elements.
template <int R, int B>
HOKKU_INLINE void load_sums(const uint8_t* sums, bool first_slice) {
  if (first_slice) {
    tile_zero<0>();
    if constexpr (B == 2) tile_zero<1>();
    if constexpr (R == 2) tile_zero<2>();
    if constexpr (R == 2 && B == 2) tile_zero<3>();
    return;
  }
  tile_load<0>(sums, B * kAmxRowBytes);
  if constexpr (B == 2) tile_load<1>(sums + kAmxRowBytes, B * kAmxRowBytes);
  if constexpr (R == 2) tile_load<2>(sums + B * kAmxTileBytes, B * kAmxRowBytes);
  if constexpr (R == 2 && B == 2) tile_load<3>(sums + B * kAmxTileBytes + kAmxRowBytes, B * kAmxRowBytes);
}

template <int R, int B>
HOKKU_INLINE void store_sums(uint8_t* sums) {
  tile_store<0>(sums, B * kAmxRowBytes);
  if constexpr (B == 2) tile_store<1>(sums + kAmxRowBytes, B * kAmxRowBytes);
  if constexpr (R == 2) tile_store<2>(sums + B * kAmxTileBytes, B * kAmxRowBytes);
  if constexpr (R == 2 && B == 2) tile_store<3>(sums + B * kAmxTileBytes + kAmxRowBytes, B * kAmxRowBytes);
}

// One slice of R row tiles and B blocks.
template <class Format, int R, int B>
HOKKU_INLINE void multiply_slice(const LinearTask& task, TilePlace place, Slice slice, uint8_t* sums) {
  const int64_t row_bytes = task.a->row_bytes();
  const int64_t block_bytes = row_bytes * kLanes;
  const uint8_t* a = task.a->data + place.row * row_bytes;
  const uint8_t* w = task.w->codes + place.block * block_bytes;
  const Ahead ahead = look_ahead(task, place.row, place.rows, place.block, B, block_bytes);
  const int64_t share = ahead.step * kAmxRows;  // bytes of each next block to ask for at every step
  const uint8_t* next = ahead.codes + slice.begin / kAmxRowBytes * share;
  load_sums<R, B>(sums, slice.first);
  for (int64_t at = slice.begin; at < slice.end; at += kAmxRowBytes) {
    tile_load<4>(a + at, row_bytes);
    tile_load<6>(w + at * kLanes, kAmxRowBytes);
    Format::template multiply<0, 4, 6>();
    if constexpr (B == 2) {
      tile_load<7>(w + block_bytes + at * kLanes, kAmxRowBytes);
      Format::template multiply<1, 4, 7>();
    }
    if constexpr (R == 2) {
      tile_load<5>(a + kAmxRows * row_bytes + at, row_bytes);
      Format::template multiply<2, 5, 6>();
      if constexpr (B == 2) Format::template multiply<3, 5, 7>();
    }
    for (int64_t line = 0; line < share; line += kAmxRowBytes) {
      for (int b = 0; b < B; ++b) __builtin_prefetch(next + line + b * block_bytes, 0, 2);
    }
    next += share;
  }
  store_sums<R, B>(sums);
}

// One slice of all rows of a chunk and B blocks. The last tile may read rows beyond the task's, which operands always
// hold, but writes none. `sums` and `y` hold those of the whole chunk.
template <class Format, int B>
void multiply_rows(const LinearTask& task, int64_t chunk_begin, int64_t chunk_end, int64_t block, int64_t segment,
                   Slice slice, uint8_t* sums, float* y) {
  for (int64_t row = chunk_begin; row < chunk_end; row += 2 * kAmxRows) {
    const int64_t left = chunk_end - row;
    const TilePlace place = {row, left < 2 * kAmxRows ? left : 2 * kAmxRows, block, B};
    if (left > kAmxRows) {
      multiply_slice<Format, 2, B>(task, place, slice, sums);
    } else {
      multiply_slice<Format, 1, B>(task, place, slice, sums);
    }
    if (slice.last) Format::template end_segment<B>(task, place, segment, sums, y);
    sums += 2 * B * kAmxTileBytes;
    y += 2 * B * kAmxRows * kLanes;
  }
}

// All segments, slice by slice, of a chunk of rows and B blocks.
template <class Format, int B>
void multiply_panel(const LinearTask& task, int64_t chunk_begin, int64_t chunk_end, int64_t block, uint8_t* sums,
                    float* y) {
  const int64_t length = task.a->row_bytes() / task.a->segments;
  const int64_t slices = (length + kSliceBytes - 1) / kSliceBytes;
  const int64_t slice_bytes = (length / kAmxRowBytes + slices - 1) / slices * kAmxRowBytes;
  for (int64_t segment = 0; segment < task.a->segments; ++segment) {
    for (int64_t at = 0; at < length; at += slice_bytes) {
      const int64_t end = at + slice_bytes < length ? at + slice_bytes : length;
      const Slice slice = {segment * length + at, segment * length + end, at == 0, end == length};
      multiply_rows<Format, B>(task, chunk_begin, chunk_end, block, segment, slice, sums, y);
    }
  }
}

template <class Format>
void multiply_on_tiles(const LinearTask& task) {
  alignas(64) uint8_t sums[kChunkSums * 4];
  alignas(64) float y[kChunkSums];
  const int64_t fitting = kRowChunkBytes / task.a->row_bytes() / (2 * kAmxRows) * (2 * kAmxRows) + 2 * kAmxRows;
  const int64_t chunk = fitting < kMaxChunkRows ? fitting : kMaxChunkRows;
  tile_configure(kAmxTiles);
  for (int64_t row = 0; row < task.rows; row += chunk) {
    const int64_t row_end = row + chunk < task.rows ? row + chunk : task.rows;
    int64_t block = task.block_begin;
    for (; block + 2 <= task.block_end; block += 2) multiply_panel<Format, 2>(task, row, row_end, block, sums, y);
    if (block < task.block_end) multiply_panel<Format, 1>(task, row, row_end, block, sums, y);
  }
  tile_release();
}

void linear_int8(const LinearTask& task) {
  if (task.rows < kMinInt8TileRows) return vnni_linear_int8(task);
  multiply_on_tiles<AmxInt8>(task);
}
// On tiles for any number of rows: another order of sums would make a row's result depend on its neighbours.
void linear_bf16(const LinearTask& task) { multiply_on_tiles<AmxBf16>(task); }

#include "isa/linear_amx_int4.inl"
