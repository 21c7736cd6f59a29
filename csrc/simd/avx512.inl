// The 16-lane vectors on AVX-512: one register each. portable.inl says what every function means.

// Rows and vectors of attention's register tile. 24 accumulators of 32 registers, 4 for what they are multiplied with, 1 broadcast.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 4;

struct V16 {
  __m512 v;
};
struct I16 {
  __m512i v;
};
struct M16 {
  __mmask16 v;
};

HOKKU_INLINE V16 set1(float x) { return {_mm512_set1_ps(x)}; }
HOKKU_INLINE I16 set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
HOKKU_INLINE V16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
HOKKU_INLINE I16 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
HOKKU_INLINE void store(float* p, V16 a) { _mm512_storeu_ps(p, a.v); }
HOKKU_INLINE void store(int32_t* p, I16 a) { _mm512_storeu_si512(p, a.v); }

HOKKU_INLINE M16 first(int64_t n) {
  return {static_cast<__mmask16>(n <= 0 ? 0u : n >= kLanes ? 0xFFFFu : (1u << n) - 1u)};
}
HOKKU_INLINE V16 load_n(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n).v, p)}; }
HOKKU_INLINE void store_n(float* p, V16 a, int64_t n) { _mm512_mask_storeu_ps(p, first(n).v, a.v); }

HOKKU_INLINE V16 add(V16 a, V16 b) { return {_mm512_add_ps(a.v, b.v)}; }
HOKKU_INLINE V16 sub(V16 a, V16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
HOKKU_INLINE V16 mul(V16 a, V16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
HOKKU_INLINE V16 div(V16 a, V16 b) { return {_mm512_div_ps(a.v, b.v)}; }
HOKKU_INLINE V16 sqrt(V16 a) { return {_mm512_sqrt_ps(a.v)}; }
HOKKU_INLINE V16 fma(V16 a, V16 b, V16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
HOKKU_INLINE V16 min(V16 a, V16 b) { return {_mm512_min_ps(a.v, b.v)}; }
HOKKU_INLINE V16 max(V16 a, V16 b) { return {_mm512_max_ps(a.v, b.v)}; }
HOKKU_INLINE V16 abs(V16 a) { return {_mm512_abs_ps(a.v)}; }

HOKKU_INLINE I16 add(I16 a, I16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
HOKKU_INLINE I16 sub(I16 a, I16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
template <int bits>
HOKKU_INLINE I16 shift_left(I16 a) {
  return {_mm512_slli_epi32(a.v, bits)};
}
HOKKU_INLINE I16 as_int(V16 a) { return {_mm512_castps_si512(a.v)}; }
HOKKU_INLINE V16 as_float(I16 a) { return {_mm512_castsi512_ps(a.v)}; }
HOKKU_INLINE V16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
HOKKU_INLINE I16 round_to_int(V16 a) { return {_mm512_cvtps_epi32(a.v)}; }

HOKKU_INLINE M16 less(V16 a, V16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
HOKKU_INLINE M16 equal(V16 a, V16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
HOKKU_INLINE M16 from_bits(uint32_t bits) { return {static_cast<__mmask16>(bits)}; }
HOKKU_INLINE uint32_t to_bits(M16 m) { return m.v; }
HOKKU_INLINE V16 select(M16 m, V16 a, V16 b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }

HOKKU_INLINE float reduce_add(V16 a) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
HOKKU_INLINE float reduce_max(V16 a) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
HOKKU_INLINE int32_t reduce_add(I16 a) { return _mm512_reduce_add_epi32(a.v); }

HOKKU_INLINE V16 load_bf16(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
HOKKU_INLINE void load_bf16_pairs(const uint16_t* p, V16& even, V16& odd) {
  const __m512i both = _mm512_loadu_si512(p);
  even.v = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
  odd.v = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
}
// Not vcvtneps2bf16, which turns denormal numbers into zero.
HOKKU_INLINE void store_bf16(uint16_t* p, V16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i even_bit = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(even_bit, _mm512_set1_epi32(0x7FFF));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i result = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(result));
}
HOKKU_INLINE V16 load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
HOKKU_INLINE void store_s8(int8_t* p, I16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
