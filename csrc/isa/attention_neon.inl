// Attention's products over int8 pages on NEON, with those of the linears (isa/linear_neon.inl); see
// body/attention_int8.inl.

struct NeonAttention {
  static constexpr int kRows = 4;  // 16 sums, 4 vectors of queries or weights, one of codes
  static constexpr int kJoinedRows = kNeverJoined;

  static void key_dots(const int8_t* q, const int32_t*, int rows, const uint8_t* const* pages, int num_pages,
                       int64_t head_dim, int32_t* dots) {
    for (int p = 0; p < num_pages; ++p) page_dots<kRows>(q, rows, pages[p], head_dim, dots + p * kLanes);
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
  static void page_dots(const int8_t* q, int rows, const uint8_t* page, int64_t head_dim, int32_t* dots) {
    if constexpr (R > 1) {
      if (rows < R) return page_dots<R - 1>(q, rows, page, head_dim, dots);
    }
    I16 sums[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) sums[r] = set1(int32_t{0});
    const auto minus_128 = [](const int8_t* stored) {
      return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s8(vld1q_s8(stored)), vdupq_n_u8(128)));
    };
    for (int64_t d = 0; d < head_dim; d += 16) {
      const auto* codes = reinterpret_cast<const int8_t*>(page) + d * kPageTokens;
      add_sixteen<R>(sums, codes, 4 * kPageTokens, q + d, head_dim, minus_128);
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
    for (int p = 0; p < num_pages; ++p) {
      add_sixteen<R>(sums, pages[p] + 4 * d, 4 * head_dim, weights + p * kPageTokens, kAttentionBlock,
                     [](const int8_t* stored) { return vld1q_s8(stored); });
    }
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) store(dots + r * head_dim, sums[r]);
  }

  // Four quads of `codes`, `stride` bytes apart, times sixteen bytes of each row of `a`.
  template <int R, class LoadCodes>
  HOKKU_INLINE static void add_sixteen(I16 (&sums)[R], const int8_t* codes, int64_t stride, const int8_t* a,
                                       int64_t a_stride, LoadCodes load_codes) {
    int8x16_t sixteen[R];
    HOKKU_UNROLL
    for (int r = 0; r < R; ++r) sixteen[r] = vld1q_s8(a + r * a_stride);
    add_quad<0, R>(sums, codes, sixteen, load_codes);
    add_quad<1, R>(sums, codes + stride, sixteen, load_codes);
    add_quad<2, R>(sums, codes + 2 * stride, sixteen, load_codes);
    add_quad<3, R>(sums, codes + 3 * stride, sixteen, load_codes);
  }

  template <int Step, int R, class LoadCodes>
  HOKKU_INLINE static void add_quad(I16 (&sums)[R], const int8_t* codes, const int8x16_t (&sixteen)[R],
                                    LoadCodes load_codes) {
    HOKKU_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int8x16_t some = load_codes(codes + 16 * i);
      HOKKU_UNROLL
      for (int r = 0; r < R; ++r) sums[r].q[i] = add_products<Step>(sums[r].q[i], some, sixteen[r]);
    }
  }
};

void attention(const AttentionTask& task, int64_t sequence, int64_t row_begin, int64_t row_end, int64_t head_begin,
               int64_t head_end) {
  run_attention<NeonAttention>(task, sequence, row_begin, row_end, head_begin, head_end);
}
