// The linears on NEON: a block of 16 outputs is four registers, each with four outputs of four neighbouring inputs.

// sum + dots of four neighbours a lane; `Step` picks the four activations out of sixteen. Where the CPU lacks sdot,
// products of int8 within ±127 fit 16 bits, and pairwise sums take them to 32.
template <int Step>
HOKKU_INLINE int32x4_t add_products(int32x4_t sum, int8x16_t codes, int8x16_t sixteen) {
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_laneq_s32(sum, codes, sixteen, Step);
#else
  const int8x16_t quad = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(sixteen), Step));
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(quad)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(codes, quad));
  return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}

// 4 rows × 1 block: 16 accumulators, 4 vectors of codes and 4 of activations, each of which serves four steps of K.
struct NeonInt8Tile {
  static constexpr int kRows = 4;
  static constexpr int kBlocks = 2;
  static constexpr int32_t kCodeZero = 0;

  template <int R, int B>
  HOKKU_INLINE static void dots(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride, int64_t depth,
                                Ahead ahead, int32_t* dots) {
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      Ahead block_ahead = {ahead.codes + b * w_stride, ahead.step};
      I16 sums[R];
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) sums[r] = set1(0);
      for (int64_t k = 0; k < depth; k += 16) {
        int8x16_t sixteen[R];
        HOKKU_UNROLL
        for (int r = 0; r < R; ++r) sixteen[r] = vld1q_s8(a + r * a_stride + k);
        const uint8_t* codes = w + b * w_stride + k * kLanes;
        add_step<0, R>(sums, codes, block_ahead, sixteen);
        add_step<1, R>(sums, codes, block_ahead, sixteen);
        add_step<2, R>(sums, codes, block_ahead, sixteen);
        add_step<3, R>(sums, codes, block_ahead, sixteen);
      }
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) store(dots + (r * B + b) * kLanes, sums[r]);
    }
  }

 private:
  template <int Step, int R>
  HOKKU_INLINE static void add_step(I16 (&sums)[R], const uint8_t* w, Ahead& ahead, const int8x16_t (&sixteen)[R]) {
    ahead.fetch<1>(0);
    HOKKU_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t stored = vld1q_u8(w + (Step * 4 + i) * kLanes);
      const int8x16_t codes = vreinterpretq_s8_u8(veorq_u8(stored, vdupq_n_u8(128)));  // minus 128
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) sums[r].q[i] = add_products<Step>(sums[r].q[i], codes, sixteen[r]);
    }
  }
};

// 4 rows × 1 block: 16 sums; the codes come from the first-level cache.
struct NeonInt4Tile {
  static constexpr int kRows = 4;
  static constexpr int kBlocks = 1;

  struct Codes {
    int8x16_t quads[kGroup / 4][4];  // inputs 4j .. 4j+3 of outputs 0-3, 4-7, 8-11, 12-15
  };

  HOKKU_INLINE static void unpack(const uint8_t* w, Codes& codes) {
    HOKKU_UNROLL
    for (int i = 0; i < 16; ++i) {
      const uint8x16_t nibbles = vld1q_u8(w + i * kLanes);
      codes.quads[i / 4][i % 4] = vreinterpretq_s8_u8(vandq_u8(nibbles, vdupq_n_u8(15)));
      codes.quads[i / 4 + 4][i % 4] = vreinterpretq_s8_u8(vshrq_n_u8(nibbles, 4));
    }
  }

  template <int R, int B>
  HOKKU_INLINE static void dots(const int8_t* a, int64_t a_stride, const Codes (&codes)[B], I16 (&dots)[R][B]) {
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      I16 sums[R];
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) sums[r] = set1(0);
      HOKKU_UNROLL
      for (int half = 0; half < 2; ++half) {
        int8x16_t sixteen[R];
        HOKKU_UNROLL
        for (int r = 0; r < R; ++r) sixteen[r] = vld1q_s8(a + r * a_stride + half * kGroup / 2);
        add_step<0, R>(sums, codes[b].quads[half * 4 + 0], sixteen);
        add_step<1, R>(sums, codes[b].quads[half * 4 + 1], sixteen);
        add_step<2, R>(sums, codes[b].quads[half * 4 + 2], sixteen);
        add_step<3, R>(sums, codes[b].quads[half * 4 + 3], sixteen);
      }
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) dots[r][b] = sums[r];
    }
  }

 private:
  template <int Step, int R>
  HOKKU_INLINE static void add_step(I16 (&sums)[R], const int8x16_t (&codes)[4], const int8x16_t (&sixteen)[R]) {
    HOKKU_UNROLL
    for (int i = 0; i < 4; ++i) {
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) sums[r].q[i] = add_products<Step>(sums[r].q[i], codes[i], sixteen[r]);
    }
  }
};

void linear_int8(const LinearTask& task) { run_linear<Int8Body<NeonInt8Tile>>(task); }
void linear_int4(const LinearTask& task) { run_int4<NeonInt4Tile>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<FloatBf16Tile<3, 2>>>(task); }
