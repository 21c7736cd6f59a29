// Attention's products over int8 pages on AVX-512 VNNI; see body/attention_int8.inl. vpdpbusd takes unsigned times signed
// bytes: the stored keys times queries, the weights times stored values.

struct VnniAttention {
  static constexpr int kRows = 6;  // 24 sums, 4 vectors of codes and the broadcast
  static constexpr int kJoinedRows = kNeverJoined;

  static void key_dots(const int8_t* q, const int32_t* q_zero, int rows, const uint8_t* const* pages, int num_pages,
                       int64_t head_dim, int32_t* dots) {
    choose_key_dots<kRows>(q, q_zero, rows, pages, num_pages, head_dim, dots);
  }

  static void value_dots(const int8_t* weights, int rows, const int8_t* const* pages, int num_pages, int64_t head_dim,
                         int32_t* dots) {
    choose_value_dots<kRows>(weights, rows, pages, num_pages, head_dim, dots);
  }

 private:
  template <int R>
  HOKKU_INLINE static void choose_key_dots(const int8_t* q, const int32_t* q_zero, int rows,
                                           const uint8_t* const* pages, int num_pages, int64_t head_dim, int32_t* dots) {
    if (rows == R) {
      if (num_pages > 2) return some_key_dots<R, 4>(q, q_zero, pages, head_dim, dots);
      return some_key_dots<R, 2>(q, q_zero, pages, head_dim, dots);
    }
    if constexpr (R > 1) choose_key_dots<R - 1>(q, q_zero, rows, pages, num_pages, head_dim, dots);
  }

  template <int R>
  HOKKU_INLINE static void choose_value_dots(const int8_t* weights, int rows, const int8_t* const* pages, int num_pages,
                                             int64_t head_dim, int32_t* dots) {
    if (rows == R) {
      int64_t d = 0;
      for (; d + 4 * kLanes <= head_dim; d += 4 * kLanes) {
        some_value_dots<R, 4>(weights, pages, num_pages, head_dim, d, dots);
      }
      for (; d < head_dim; d += kLanes) some_value_dots<R, 1>(weights, pages, num_pages, head_dim, d, dots);
      return;
    }
    if constexpr (R > 1) choose_value_dots<R - 1>(weights, rows, pages, num_pages, head_dim, dots);
  }

  // R rows against the first P pages.
  template <int R, int P>
  [[gnu::noinline]] static void some_key_dots(const int8_t* q, const int32_t* q_zero, const uint8_t* const* pages, int64_t head_dim,
                            int32_t* dots) {
    __m512i sums[R][P];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int p = 0; p < P; ++p) sums[r][p] = _mm512_set1_epi32(-q_zero[r]);
    }
    for (int64_t d = 0; d < head_dim; d += 4) {
      __m512i codes[P];
      HOKKU_UNROLL
      for (int p = 0; p < P; ++p) codes[p] = _mm512_load_si512(pages[p] + d * kPageTokens);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i quad = broadcast_quad(q + r * head_dim + d);
        HOKKU_UNROLL
        for (int p = 0; p < P; ++p) sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], codes[p], quad);
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int p = 0; p < P; ++p) _mm512_store_si512(dots + r * kAttentionBlock + p * kLanes, sums[r][p]);
    }
  }

  // R rows, 16 B dimensions from d on.
  template <int R, int B>
  [[gnu::noinline]] static void some_value_dots(const int8_t* weights, const int8_t* const* pages, int num_pages, int64_t head_dim,
                              int64_t d, int32_t* dots) {
    __m512i sums[R][B];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) sums[r][b] = _mm512_setzero_si512();
    }
    for (int p = 0; p < num_pages; ++p) {
      const int8_t* values = pages[p] + 4 * d;
      for (int64_t key = p * kPageTokens; key < (p + 1) * kPageTokens; key += 4, values += 4 * head_dim) {
        __m512i codes[B];
        HOKKU_UNROLL
        for (int b = 0; b < B; ++b) codes[b] = _mm512_load_si512(values + b * 4 * kLanes);
        HOKKU_UNROLL
        for (int r = 0; r < R; ++r) {
          const __m512i quad = broadcast_quad(weights + r * kAttentionBlock + key);
          HOKKU_UNROLL
          for (int b = 0; b < B; ++b) sums[r][b] = _mm512_dpbusd_epi32(sums[r][b], quad, codes[b]);
        }
      }
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) {
      HOKKU_UNROLL
      for (int b = 0; b < B; ++b) _mm512_storeu_si512(dots + r * head_dim + d + b * kLanes, sums[r][b]);
    }
  }
};
