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

struct NeonInt4Tile {
  static constexpr int kRows = 4;
  static constexpr int kBlocks = 2;

  template <int R, int B>
  HOKKU_INLINE static void group(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride,
                                 Ahead& ahead, I16 (&dots)[R][B]) {
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) dots[r][b] = set1(0);
    }
    add_step<0>(a, a_stride, w, w_stride, ahead, dots);
    add_step<1>(a, a_stride, w, w_stride, ahead, dots);
    add_step<2>(a, a_stride, w, w_stride, ahead, dots);
    add_step<3>(a, a_stride, w, w_stride, ahead, dots);
  }

 private:
  template <int Step, int R, int B>
  HOKKU_INLINE static void add_step(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride,
                                    Ahead& ahead, I16 (&dots)[R][B]) {
    ahead.fetch<B>(w_stride);
    HOKKU_UNROLL
    for (int b = 0; b < B; ++b) {
      HOKKU_UNROLL
      for (int i = 0; i < 4; ++i) {
        const uint8x16_t nibbles = vld1q_u8(w + b * w_stride + (Step * 4 + i) * kLanes);
        const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(nibbles, vdupq_n_u8(15)));
        const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(nibbles, 4));
        HOKKU_UNROLL
        for (int r = 0; r < R; ++r) {
          int32x4_t& sum = dots[r][b].q[i];
          sum = add_products<Step>(sum, low, vld1q_s8(a + r * a_stride));
          sum = add_products<Step>(sum, high, vld1q_s8(a + r * a_stride + kGroup / 2));
        }
      }
    }
  }
};

void linear_int8(const LinearTask& task) { run_linear<Int8Body<NeonInt8Tile>>(task); }
void linear_int4(const LinearTask& task) { run_linear<Int4Body<NeonInt4Tile>>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<FloatBf16Tile<3, 2>>>(task); }
