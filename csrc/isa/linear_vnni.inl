// Tiles of the linears on AVX-512 VNNI, shared by all paths that have it. vpdpbusd multiplies unsigned bytes (the
// weights, as stored) by signed ones (the activations, four of a row broadcast to all lanes) and adds four neighbours
// into each 32-bit lane.

HOKKU_INLINE __m512i broadcast_quad(const int8_t* a) {
  int32_t quad;
  __builtin_memcpy(&quad, a, sizeof quad);
  return _mm512_set1_epi32(quad);
}

// 6 rows × 4 blocks: 24 accumulators, 4 weights and the broadcast leave three of the 32 registers free. Both
// multipliers stay busy: per 24 products there are 10 loads and 4 prefetches, and two can start a cycle.
struct Avx512Int8Tile {
  static constexpr int kRows = 6;
  static constexpr int kBlocks = 4;
  static constexpr int32_t kCodeZero = 128;

  template <int R, int B>
  HOKKU_INLINE static void dots(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride, int64_t depth,
                                Ahead ahead, int32_t* dots) {
    __m512i sums[R][B];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) sums[r][b] = _mm512_setzero_si512();
    }
    for (int64_t k = 0; k < depth; k += 4) {
      ahead.fetch<B>(w_stride);
      __m512i codes[B];
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) codes[b] = _mm512_load_si512(w + b * w_stride + k * kLanes);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i quad = broadcast_quad(a + r * a_stride + k);
        HOKKU_UNROLL
        for (int b = 0; b < B; ++b) sums[r][b] = _mm512_dpbusd_epi32(sums[r][b], codes[b], quad);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) _mm512_store_si512(dots + (r * B + b) * kLanes, sums[r][b]);
    }
  }
};

// For a step of up to six rows memory sets the pace: one block after the other keeps the weights a single ascending
// stream, and two or four steps of K at once give the multipliers enough independent sums.
struct Avx512Int8Stream {
  static constexpr int kRows = 6;
  static constexpr int kBlocks = 2;
  static constexpr int64_t kAheadBytes = 8192;  // measured best of 1, 2, 4 and 8 KiB on Zen 5

  template <int R, int B>
  static void run(const LinearTask& task, int64_t row, int64_t block) {
    alignas(64) float y[R * B * kLanes];
    for (int b = 0; b < B; ++b) add_block<R>(task, row, block + b, y + b * kLanes, B * kLanes);
    write_outputs(task, {row, R, block, B}, y);
  }

 private:
  template <int R>
  HOKKU_INLINE static void add_block(const LinearTask& task, int64_t row, int64_t block, float* y, int64_t y_stride) {
    const Operand& a = *task.a;
    const int64_t length = a.depth / a.segments;
    const auto* codes = reinterpret_cast<const int8_t*>(a.data) + row * a.depth;
    const uint8_t* weights = task.w->codes + block * a.depth * kLanes;
    const float* weight_scale = task.w->scale + block * a.segments * kLanes;
    const float* scale = a.scale + row * a.segments;
    const int32_t* sum = a.sum + row * a.segments;
    V16 outputs[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) outputs[r] = set1(0.0f);
    for (int64_t s = 0; s < a.segments; ++s) {
      I16 dots[R];
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) dots[r] = set1(-128 * sum[r * a.segments + s]);
      add_dots<R>(codes + s * length, a.depth, weights + s * length * kLanes, length, dots);
      __builtin_prefetch(weight_scale + (s + a.segments) * kLanes);
      const V16 columns = load(weight_scale + s * kLanes);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        outputs[r] = fma(mul(to_float(dots[r]), set1(scale[r * a.segments + s])), columns, outputs[r]);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) store(y + r * y_stride, outputs[r]);
  }

  template <int R>
  HOKKU_INLINE static void add_dots(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t length, I16 (&dots)[R]) {
    constexpr int kSteps = R <= 2 ? 4 : 2;
    __m512i sums[R][kSteps];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int s = 0; s < kSteps; ++s) sums[r][s] = s == 0 ? dots[r].v : _mm512_setzero_si512();
    }
    for (int64_t k = 0; k < length; k += 4 * kSteps) {
      HOKKU_UNROLL
      for (int s = 0; s < kSteps; ++s) {
        const uint8_t* line = w + (k + 4 * s) * kLanes;
        __builtin_prefetch(line + kAheadBytes);
        const __m512i codes = _mm512_load_si512(line);
        HOKKU_UNROLL
        for (int r = 0; r < R; ++r) {
          sums[r][s] = _mm512_dpbusd_epi32(sums[r][s], codes, broadcast_quad(a + r * a_stride + k + 4 * s));
        }
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int s = 1; s < kSteps; ++s) sums[r][0] = _mm512_add_epi32(sums[r][0], sums[r][s]);
      dots[r].v = sums[r][0];
    }
  }
};

HOKKU_INLINE void vnni_linear_int8(const LinearTask& task) {
  if (task.rows <= Avx512Int8Stream::kRows) return run_linear<Avx512Int8Stream>(task);
  run_linear<Int8Body<Avx512Int8Tile>>(task);
}

// 3 rows × 2 blocks: 6 sums beside the 16 vectors of codes and 4 of scales and minima that stay in registers while
// the rows pass by.
struct Avx512Int4Tile {
  static constexpr int kRows = 3;
  static constexpr int kBlocks = 2;

  struct Codes {
    __m512i quads[kGroup / 4];  // inputs 4j .. 4j+3
  };

  HOKKU_INLINE static void unpack(const uint8_t* w, Codes& codes) {
    const __m512i low_bits = _mm512_set1_epi8(15);
    HOKKU_UNROLL
    for (int j = 0; j < 4; ++j) {
      const __m512i nibbles = _mm512_load_si512(w + j * 4 * kLanes);
      codes.quads[j] = _mm512_and_si512(nibbles, low_bits);
      codes.quads[j + 4] = _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), low_bits);
    }
  }

  template <int R, int B>
  HOKKU_INLINE static void dots(const int8_t* a, int64_t a_stride, const Codes (&codes)[B], I16 (&dots)[R][B]) {
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) dots[r][b].v = _mm512_setzero_si512();
    }
    HOKKU_UNROLL
    for (int j = 0; j < kGroup / 4; ++j) {
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i quad = broadcast_quad(a + r * a_stride + 4 * j);
        HOKKU_UNROLL
        for (int b = 0; b < B; ++b) dots[r][b].v = _mm512_dpbusd_epi32(dots[r][b].v, codes[b].quads[j], quad);
      }
    }
  }
};
