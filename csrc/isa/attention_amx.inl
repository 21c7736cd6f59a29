// Attention's products over int8 pages on AMX tiles; see body/attention_int8.inl. A page of keys of 64 dimensions is one
// B-tile as it lies, and so are 64 keys of 16 dimensions of V once a block's four pages stand one behind the other.
// Few rows, and head sizes that do not fill tiles, go by VNNI: the integers are the same.
#include "isa/attention_vnni.inl"

struct AmxAttention {
  static constexpr int kRows = kAmxRows;
  static constexpr int kJoinedRows = 5;  // fewer go by VNNI

  static void key_dots(const int8_t* q, const int32_t* q_zero, int rows, const uint8_t* const* pages, int num_pages,
                       int64_t head_dim, int32_t* dots) {
    if (!fills_tiles(rows, head_dim)) {
      return in_parts(rows, [&](int r, int count) {
        VnniAttention::key_dots(q + r * head_dim, q_zero + r, count, pages, num_pages, head_dim,
                                dots + r * kAttentionBlock);
      });
    }
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
    for (int64_t d = 0; d < head_dim; d += kAmxRowBytes) {
      const int64_t at = d * kPageTokens;
      tile_load<4>(q + d, head_dim);
      tile_load<5>(pages[0] + at, kAmxRowBytes);
      tile_multiply_s8u8<0, 4, 5>();
      tile_load<6>(pages[1] + at, kAmxRowBytes);
      tile_multiply_s8u8<1, 4, 6>();
      tile_load<5>(pages[2] + at, kAmxRowBytes);
      tile_multiply_s8u8<2, 4, 5>();
      tile_load<6>(pages[3] + at, kAmxRowBytes);
      tile_multiply_s8u8<3, 4, 6>();
    }
    store_four(dots, kAttentionBlock);
    for (int r = 0; r < rows; ++r) {
      const I16 zero = set1(q_zero[r]);
      for (int64_t key = 0; key < kAttentionBlock; key += kLanes) {
        int32_t* sixteen = dots + r * kAttentionBlock + key;
        store(sixteen, sub(load(sixteen), zero));
      }
    }
  }

  static void value_dots(const int8_t* weights, int rows, const int8_t* const* pages, int num_pages, int64_t head_dim,
                         int32_t* dots) {
    if (!fills_tiles(rows, head_dim)) {
      return in_parts(rows, [&](int r, int count) {
        VnniAttention::value_dots(weights + r * kAttentionBlock, count, pages, num_pages, head_dim,
                                  dots + r * head_dim);
      });
    }
    tile_load<4>(weights, kAttentionBlock);
    for (int64_t d = 0; d < head_dim; d += 4 * kLanes) {
      const int8_t* at = pages[0] + 4 * d;
      tile_zero<0>();
      tile_zero<1>();
      tile_zero<2>();
      tile_zero<3>();
      tile_load<5>(at, 4 * head_dim);
      tile_multiply_u8s8<0, 4, 5>();
      tile_load<6>(at + kAmxRowBytes, 4 * head_dim);
      tile_multiply_u8s8<1, 4, 6>();
      tile_load<5>(at + 2 * kAmxRowBytes, 4 * head_dim);
      tile_multiply_u8s8<2, 4, 5>();
      tile_load<6>(at + 3 * kAmxRowBytes, 4 * head_dim);
      tile_multiply_u8s8<3, 4, 6>();
      store_four(dots + d, head_dim);
    }
  }

 private:
  // Rows beyond `rows` and pages beyond `num_pages` are multiplied, too: they cost nothing, and what they give nobody
  // looks at, or has a weight of zero.
  HOKKU_INLINE static bool fills_tiles(int rows, int64_t head_dim) {
    return rows >= kJoinedRows && head_dim % kAmxRowBytes == 0;
  }

  template <class Part>
  HOKKU_INLINE static void in_parts(int rows, Part part) {
    for (int r = 0; r < rows; r += VnniAttention::kRows) {
      part(r, rows - r < VnniAttention::kRows ? rows - r : VnniAttention::kRows);
    }
  }

  // Tiles 0 to 3 side by side, `stride` elements from row to row.
  HOKKU_INLINE static void store_four(int32_t* dots, int64_t stride) {
    tile_store<0>(dots, 4 * stride);
    tile_store<1>(dots + kLanes, 4 * stride);
    tile_store<2>(dots + 2 * kLanes, 4 * stride);
    tile_store<3>(dots + 3 * kLanes, 4 * stride);
  }
};

void attention(const AttentionTask& task, int64_t sequence, int64_t row_begin, int64_t row_end, int64_t head_begin,
               int64_t head_end) {
  tile_configure(kAmxTiles);
  run_attention<AmxAttention>(task, sequence, row_begin, row_end, head_begin, head_end);
  tile_release();
}
