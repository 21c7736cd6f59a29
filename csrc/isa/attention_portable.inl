// Attention's products over int8 pages in plain loops; see body/attention_int8.inl.

struct PortableAttention {
  static constexpr int kRows = 4;
  static constexpr int kJoinedRows = kNeverJoined;

  static void key_dots(const int8_t* q, const int32_t*, int rows, const uint8_t* const* pages, int num_pages,
                       int64_t head_dim, int32_t* dots) {
    for (int r = 0; r < rows; ++r) {
      for (int key = 0; key < num_pages * kPageTokens; ++key) {
        const uint8_t* codes = pages[key / kPageTokens] + key % kPageTokens * 4;
        int32_t sum = 0;
        for (int64_t d = 0; d < head_dim; ++d) {
          sum += q[r * head_dim + d] * (codes[d / 4 * 4 * kPageTokens + d % 4] - 128);
        }
        dots[r * kAttentionBlock + key] = sum;
      }
    }
  }

  static void value_dots(const int8_t* weights, int rows, const int8_t* const* pages, int num_pages, int64_t head_dim,
                         int32_t* dots) {
    for (int r = 0; r < rows; ++r) {
      for (int64_t d = 0; d < head_dim; ++d) {
        int32_t sum = 0;
        for (int key = 0; key < num_pages * kPageTokens; ++key) {
          const int in_page = key % kPageTokens;
          const int8_t* quad = pages[key / kPageTokens] + in_page / 4 * 4 * head_dim;
          sum += weights[r * kAttentionBlock + key] * quad[4 * d + in_page % 4];
        }
        dots[r * head_dim + d] = sum;
      }
    }
  }
};

void attention(const AttentionTask& task, int64_t sequence, int64_t row_begin, int64_t row_end, int64_t head_begin,
               int64_t head_end) {
  run_attention<PortableAttention>(task, sequence, row_begin, row_end, head_begin, head_end);
}
