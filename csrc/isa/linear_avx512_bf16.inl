// The linears of the avx512_bf16 path: as avx512, with bf16 multiplied as it is.
#include "isa/linear_vnni.inl"

// vdpbf16ps takes two neighbouring inputs a lane; denormal numbers count as zero. One chain an output, k ascending.
struct Avx512Bf16Tile {
  static constexpr int kRows = 6;
  static constexpr int kBlocks = 4;

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
      __m512bh values[B];
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) values[b] = (__m512bh)_mm512_load_si512(w + b * w_stride + k * kLanes);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const auto pair = (__m512bh)broadcast_quad(reinterpret_cast<const int8_t*>(a + r * a_stride + k));
        HOKKU_UNROLL
        for (int b = 0; b < B; ++b) y[r][b].v = _mm512_dpbf16_ps(y[r][b].v, values[b], pair);
      }
    }
  }
};

void linear_int8(const LinearTask& task) { vnni_linear_int8(task); }
void linear_int4(const LinearTask& task) { run_int4<Avx512Int4Tile>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<Avx512Bf16Tile>>(task); }
