// The AMX tile registers (Intel SDM volume 1, chapter 18), eight of 16 rows × 64 bytes, named by template argument.
// Written as assembly because g++ 12's intrinsics do not say that they touch memory: its _tile_loadconfig declares
// eight of the 64 bytes it reads, and the compiler may drop the stores to the others.

struct TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

HOKKU_INLINE void tile_configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }

HOKKU_INLINE void tile_release() { asm volatile("tilerelease"); }

template <int T>
HOKKU_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}

template <int T>
HOKKU_INLINE void tile_load(const void* rows, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride_bytes), "i"(T) : "memory");
}

template <int T>
HOKKU_INLINE void tile_store(void* rows, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride_bytes), "i"(T) : "memory");
}

// C += A · B: signed bytes of A, unsigned bytes of B (four inputs of one output lie side by side), sums of 32 bits.
template <int C, int A, int B>
HOKKU_INLINE void tile_multiply_s8u8() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

// The same with unsigned bytes of A and signed bytes of B.
template <int C, int A, int B>
HOKKU_INLINE void tile_multiply_u8s8() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

// C += A · B in bf16 (pairs of inputs lie side by side), sums in float.
template <int C, int A, int B>
HOKKU_INLINE void tile_multiply_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}
