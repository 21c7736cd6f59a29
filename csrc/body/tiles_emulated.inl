// The AMX tile registers in plain C++, operation for operation what Intel's SDM volume 2 says of LDTILECFG, TILEZERO,
// TILELOADD, TILESTORED, TDPBSUD, TDPBUSD and TDPBF16PS, so that the kernels above them can be tested on any machine.

struct TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

struct EmulatedTile {
  uint8_t row[16][64];
};

thread_local TileConfig tile_config;
thread_local EmulatedTile tile_register[8];

// Using tiles without a configuration, or outside of it, faults on the real machine.
HOKKU_INLINE void require(bool condition) {
  if (!condition) __builtin_trap();
}

template <int T>
EmulatedTile& configured_tile() {
  require(tile_config.palette == 1 && tile_config.rows[T] > 0 && tile_config.rows[T] <= 16 &&
          tile_config.row_bytes[T] > 0 && tile_config.row_bytes[T] <= 64);
  return tile_register[T];
}

inline void tile_configure(const TileConfig& config) {
  tile_config = config;
  for (EmulatedTile& tile : tile_register) tile = {};
}

inline void tile_release() { tile_config = {}; }

template <int T>
void tile_zero() {
  configured_tile<T>() = {};
}

template <int T>
void tile_load(const void* rows, int64_t stride_bytes) {
  EmulatedTile& tile = configured_tile<T>();
  tile = {};
  for (int r = 0; r < tile_config.rows[T]; ++r) {
    __builtin_memcpy(tile.row[r], static_cast<const uint8_t*>(rows) + r * stride_bytes, tile_config.row_bytes[T]);
  }
}

template <int T>
void tile_store(void* rows, int64_t stride_bytes) {
  const EmulatedTile& tile = configured_tile<T>();
  for (int r = 0; r < tile_config.rows[T]; ++r) {
    __builtin_memcpy(static_cast<uint8_t*>(rows) + r * stride_bytes, tile.row[r], tile_config.row_bytes[T]);
  }
}

// The shapes must fit: C [m][n], A [m][k], B [k][n], counted in 4-byte elements.
template <int C, int A, int B>
HOKKU_INLINE void require_shapes() {
  require(tile_config.rows[C] == tile_config.rows[A] && tile_config.row_bytes[C] == tile_config.row_bytes[B] &&
          tile_config.row_bytes[A] == 4 * tile_config.rows[B]);
}

// Bytes of A times bytes of B, each of the type given.
template <class AByte, class BByte, int C, int A, int B>
void tile_multiply_bytes() {
  EmulatedTile& c = configured_tile<C>();
  const EmulatedTile& a = configured_tile<A>();
  const EmulatedTile& b = configured_tile<B>();
  require_shapes<C, A, B>();
  for (int m = 0; m < tile_config.rows[C]; ++m) {
    int32_t sums[16];
    __builtin_memcpy(sums, c.row[m], sizeof sums);
    for (int k = 0; k < tile_config.row_bytes[A] / 4; ++k) {
      for (int n = 0; n < tile_config.row_bytes[C] / 4; ++n) {
        for (int i = 0; i < 4; ++i) {
          sums[n] += static_cast<AByte>(a.row[m][4 * k + i]) * static_cast<BByte>(b.row[k][4 * n + i]);
        }
      }
    }
    __builtin_memcpy(c.row[m], sums, sizeof sums);
  }
}

template <int C, int A, int B>
void tile_multiply_s8u8() {
  tile_multiply_bytes<int8_t, uint8_t, C, A, B>();
}

template <int C, int A, int B>
void tile_multiply_u8s8() {
  tile_multiply_bytes<uint8_t, int8_t, C, A, B>();
}

// Denormal inputs and results are zero whatever MXCSR says.
HOKKU_INLINE float flush(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x; }

HOKKU_INLINE float bf16_at(const uint8_t* row, int element) {
  uint16_t bits;
  __builtin_memcpy(&bits, row + 2 * element, sizeof bits);
  return flush(__builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16));
}

// Even and odd inputs are summed apart, by fused steps in k order, then together, then to C.
template <int C, int A, int B>
void tile_multiply_bf16() {
  EmulatedTile& c = configured_tile<C>();
  const EmulatedTile& a = configured_tile<A>();
  const EmulatedTile& b = configured_tile<B>();
  require_shapes<C, A, B>();
  for (int m = 0; m < tile_config.rows[C]; ++m) {
    float sums[16];
    __builtin_memcpy(sums, c.row[m], sizeof sums);
    for (int n = 0; n < tile_config.row_bytes[C] / 4; ++n) {
      float even = 0.0f, odd = 0.0f;
      for (int k = 0; k < tile_config.row_bytes[A] / 4; ++k) {
        even = flush(__builtin_fmaf(bf16_at(a.row[m], 2 * k), bf16_at(b.row[k], 2 * n), even));
        odd = flush(__builtin_fmaf(bf16_at(a.row[m], 2 * k + 1), bf16_at(b.row[k], 2 * n + 1), odd));
      }
      sums[n] = flush(flush(sums[n]) + flush(even + odd));
    }
    __builtin_memcpy(c.row[m], sums, sizeof sums);
  }
}
