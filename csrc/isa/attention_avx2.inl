// Attention's products over int8 pages on AVX2, with and without AVX-VNNI; see body/attention_int8.inl. Products with
// keys are those of the linears (isa/linear_avx2.inl).

#ifdef __AVXVNNI__
HOKKU_INLINE __m256i add_weighted(__m256i sum, __m256i values, __m256i weights) {
  return _mm256_dpbusd_avx_epi32(sum, weights, values);
}
#else
// Weights of seven bits: a pair sums to at most 2 * 127 * 127 = 32258 and never saturates.
HOKKU_INLINE __m256i add_weighted(__m256i sum, __m256i values, __m256i weights) {
  const __m256i pairs = _mm256_maddubs_epi16(weights, values);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

struct Avx2Attention {
  static constexpr int kRows = kAvx2Rows;
  static constexpr int kJoinedRows = kNeverJoined;

  static void key_dots(const int8_t* q, const int32_t* q_zero, int rows, const uint8_t* const* pages, int num_pages,
                       int64_t head_dim, int32_t* dots) {
    for (int p = 0; p < num_pages; ++p) page_dots<kRows>(q, q_zero, rows, pages[p], head_dim, dots + p * kLanes);
  }

  static void value_dots(const int8_t* weights, int rows, const int8_t* const* pages, int num_pages, int64_t head_dim,
                         int32_t* dots) {
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      lane_dots<kRows>(weights, rows, pages, num_pages, head_dim, d, dots + d);
    }
  }

 private:
  // `rows` rows, known to be no more than R, against one page.
  template <int R>
  static void page_dots(const int8_t* q, const int32_t* q_zero, int rows, const uint8_t* page, int64_t head_dim,
                        int32_t* dots) {
    if constexpr (R > 1) {
      if (rows < R) return page_dots<R - 1>(q, q_zero, rows, page, head_dim, dots);
    }
    I16 sums[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) sums[r] = set1(kAvx2CodeZero == 0 ? 0 : -q_zero[r]);
    for (int64_t d = 0; d < head_dim; d += 4) {
      const __m256i lo = prepare_codes(load_codes(page + d * kPageTokens));
      const __m256i hi = prepare_codes(load_codes(page + d * kPageTokens + 32));
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i quad = broadcast_quad(q + r * head_dim + d);
        sums[r].lo = add_products(sums[r].lo, lo, quad);
        sums[r].hi = add_products(sums[r].hi, hi, quad);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) store(dots + r * kAttentionBlock, sums[r]);
  }

  // `rows` rows, known to be no more than R, and 16 dimensions.
  template <int R>
  static void lane_dots(const int8_t* weights, int rows, const int8_t* const* pages, int num_pages, int64_t head_dim,
                        int64_t d, int32_t* dots) {
    if constexpr (R > 1) {
      if (rows < R) return lane_dots<R - 1>(weights, rows, pages, num_pages, head_dim, d, dots);
    }
    I16 sums[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) sums[r] = set1(int32_t{0});
    for (int key = 0; key < num_pages * kPageTokens; key += 4) {
      const int8_t* values = pages[key / kPageTokens] + key % kPageTokens * head_dim + 4 * d;
      const __m256i lo = _mm256_load_si256(reinterpret_cast<const __m256i*>(values));
      const __m256i hi = _mm256_load_si256(reinterpret_cast<const __m256i*>(values + 32));
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i quad = broadcast_quad(weights + r * kAttentionBlock + key);
        sums[r].lo = add_weighted(sums[r].lo, lo, quad);
        sums[r].hi = add_weighted(sums[r].hi, hi, quad);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) store(dots + r * head_dim, sums[r]);
  }
};

void attention(const AttentionTask& task, int64_t sequence, int64_t row_begin, int64_t row_end, int64_t head_begin,
               int64_t head_end) {
  run_attention<Avx2Attention>(task, sequence, row_begin, row_end, head_begin, head_end);
}
