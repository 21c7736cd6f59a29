// The linears on AVX2: a block of 16 outputs is two registers. Where the CPU has the 256-bit vpdpbusd (AVX-VNNI),
// isa/avxvnni.cpp compiles this same file with it.

HOKKU_INLINE __m256i broadcast_quad(const int8_t* a) {
  int32_t quad;
  __builtin_memcpy(&quad, a, sizeof quad);
  return _mm256_set1_epi32(quad);
}

HOKKU_INLINE __m256i load_codes(const uint8_t* w) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
}

#ifdef __AVXVNNI__

constexpr int32_t kAvx2CodeZero = 128;
constexpr int kAvx2Rows = 6;  // 12 accumulators, 2 vectors of codes, the broadcast
constexpr int kAvx2Int4Rows = 3;
constexpr int kAvx2UnrolledRows = 3;

// sum + products of stored codes and activations, four neighbours a lane.
HOKKU_INLINE __m256i add_products(__m256i sum, __m256i codes, __m256i quad) {
  return _mm256_dpbusd_avx_epi32(sum, codes, quad);
}

HOKKU_INLINE __m256i prepare_codes(__m256i codes) { return codes; }

// Nibbles times activations; sums of a group stay exact in 32 bits.
HOKKU_INLINE __m256i add_nibble_products(__m256i sum, __m256i nibbles, __m256i quad) {
  return _mm256_dpbusd_avx_epi32(sum, nibbles, quad);
}

HOKKU_INLINE __m256i finish_nibble_sums(__m256i sums) { return sums; }

#else

constexpr int32_t kAvx2CodeZero = 0;
constexpr int kAvx2Rows = 4;
constexpr int kAvx2Int4Rows = 4;
// Beyond these g++ 12 turns eight unrolled steps into products first and sums later, which do not fit the registers.
constexpr int kAvx2UnrolledRows = 2;

// vpmaddubsw wants one unsigned factor: |a| times w with a's sign. Both are within ±127, so a pair sums to at most
// 2 * 127 * 127 = 32258 and never saturates.
HOKKU_INLINE __m256i add_products(__m256i sum, __m256i codes, __m256i quad) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(quad), _mm256_sign_epi8(codes, quad));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// Stored codes to signed values: minus 128.
HOKKU_INLINE __m256i prepare_codes(__m256i codes) { return _mm256_xor_si256(codes, _mm256_set1_epi8(-128)); }

// A group's sums fit 16 bits: 8 pairs of at most 2 * 15 * 127 are 30480.
HOKKU_INLINE __m256i add_nibble_products(__m256i sum, __m256i nibbles, __m256i quad) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(nibbles, quad));
}

HOKKU_INLINE __m256i finish_nibble_sums(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }

#endif

struct Avx2Int8Tile {
  static constexpr int kRows = kAvx2Rows;
  static constexpr int kBlocks = 2;
  static constexpr int32_t kCodeZero = kAvx2CodeZero;

  // One block at a time: sixteen registers hold no more sums.
  template <int R, int B>
  HOKKU_INLINE static void dots(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride, int64_t depth,
                                Ahead ahead, int32_t* dots) {
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      const Ahead block_ahead = {ahead.codes + b * w_stride, ahead.step};
      block<R>(a, a_stride, w + b * w_stride, depth, block_ahead, dots + b * kLanes, B * kLanes);
    }
  }

 private:
  template <int R>
  HOKKU_INLINE static void block(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t depth, Ahead ahead,
                                 int32_t* dots, int64_t dots_stride) {
    I16 sums[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) sums[r] = set1(0);
    for (int64_t k = 0; k < depth; k += 4) {
      ahead.fetch<1>(0);
      const __m256i lo = prepare_codes(load_codes(w + k * kLanes));
      const __m256i hi = prepare_codes(load_codes(w + k * kLanes + 32));
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i quad = broadcast_quad(a + r * a_stride + k);
        sums[r].lo = add_products(sums[r].lo, lo, quad);
        sums[r].hi = add_products(sums[r].hi, hi, quad);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) store(dots + r * dots_stride, sums[r]);
  }
};

// 3 or 4 rows × 1 block: 6 or 8 sums; the codes come from the first-level cache.
struct Avx2Int4Tile {
  static constexpr int kRows = kAvx2Int4Rows;
  static constexpr int kBlocks = 1;

  struct Codes {
    __m256i quads[kGroup / 4][2];  // inputs 4j .. 4j+3 of outputs 0-7 and 8-15
  };

  HOKKU_INLINE static void unpack(const uint8_t* w, Codes& codes) {
    const __m256i low_bits = _mm256_set1_epi8(15);
    HOKKU_UNROLL
    for (int i = 0; i < 8; ++i) {
      const __m256i nibbles = load_codes(w + 32 * i);
      codes.quads[i / 2][i % 2] = _mm256_and_si256(nibbles, low_bits);
      codes.quads[i / 2 + 4][i % 2] = _mm256_and_si256(_mm256_srli_epi16(nibbles, 4), low_bits);
    }
  }

  template <int R, int B>
  HOKKU_INLINE static void dots(const int8_t* a, int64_t a_stride, const Codes (&codes)[B], I16 (&dots)[R][B]) {
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      __m256i lo[R], hi[R];
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) lo[r] = hi[r] = _mm256_setzero_si256();
      if constexpr (R <= kAvx2UnrolledRows) {
        HOKKU_UNROLL
        for (int j = 0; j < kGroup / 4; ++j) add_quads<R>(a + 4 * j, a_stride, codes[b].quads[j], lo, hi);
      } else {
#pragma GCC unroll 4
        for (int j = 0; j < kGroup / 4; ++j) add_quads<R>(a + 4 * j, a_stride, codes[b].quads[j], lo, hi);
      }
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) dots[r][b] = {finish_nibble_sums(lo[r]), finish_nibble_sums(hi[r])};
    }
  }

 private:
  template <int R>
  HOKKU_INLINE static void add_quads(const int8_t* a, int64_t a_stride, const __m256i (&codes)[2], __m256i (&lo)[R],
                                     __m256i (&hi)[R]) {
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m256i quad = broadcast_quad(a + r * a_stride);
      lo[r] = add_nibble_products(lo[r], codes[0], quad);
      hi[r] = add_nibble_products(hi[r], codes[1], quad);
    }
  }
};

void linear_int8(const LinearTask& task) { run_linear<Int8Body<Avx2Int8Tile>>(task); }
void linear_int4(const LinearTask& task) { run_int4<Avx2Int4Tile>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<FloatBf16Tile<2, 2>>>(task); }
