// Attention over the key/value pages, with the online softmax of Milakov & Gimelshein (2018) as used by
// FlashAttention (Dao et al. 2022): keys are taken in blocks of 64 by absolute position, and for each query row
//   m' = max(m, max of the block's scores), p = e^(s - m'), l' = l e^(m - m') + sum p, o' = o e^(m - m') + p V.
// A masked key has p = 0 and every stored value is finite, so it leaves o and l as they are: a row gets the same bits
// whether its later keys are in the page or not, and whichever rows and heads share its tile.
//
// A row is a query head of a token. Rows that share a KV head go through its keys together, some at a time as a tile.
// How depends on the pages: attention_bf16.inl multiplies in floats, attention_int8.inl in integers.

constexpr int kBlockVectors = kAttentionBlock / kLanes;
constexpr float kMasked = -0x1p126f;
// Rows that go together at most: an eighth of the second-level cache at D = 128.
constexpr int64_t kMaxAttentionRows = 256;

struct AttentionRow {
  const float* q;   // [D]
  float* out;       // [D], unnormalised until the last block is done
  int64_t position;     // of the last key that the row sees
  float largest;    // m
  float sum;        // l
};

// PagePool's places of the pages that hold one block of keys of one KV head. Past the last page the first stands in:
// its keys are masked.
struct BlockPlaces {
  int64_t page[kBlockVectors];
};

HOKKU_INLINE BlockPlaces block_places(const AttentionTask& t, int64_t sequence, int64_t kv_head, int64_t first_key,
                                      int64_t num_keys) {
  const int32_t* table = t.step->page_table + sequence * t.step->page_table_stride;
  BlockPlaces places;
  for (int i = 0; i < kBlockVectors; ++i) {
    const int64_t key = first_key + i * kPageTokens;
    places.page[i] = t.pool->place(t.layer, table[(key < num_keys ? key : first_key) / kPageTokens], kv_head);
  }
  return places;
}

// Calls attend(kv_head, rows, num_rows) for every KV head, with rows in order of their positions.
template <class Attend>
HOKKU_INLINE void each_run_of_rows(const AttentionTask& t, int64_t sequence, int64_t row_begin, int64_t row_end,
                                   int64_t head_begin, int64_t head_end, Attend attend) {
  const int64_t head_dim = t.pool->head_dim, heads_per_kv = t.heads / t.pool->kv_heads;
  AttentionRow rows[kMaxAttentionRows];
  for (int64_t head = head_begin; head < head_end;) {
    const int64_t kv_head = head / heads_per_kv;
    const int64_t kv_end = (kv_head + 1) * heads_per_kv < head_end ? (kv_head + 1) * heads_per_kv : head_end;
    int64_t num_rows = 0;
    for (int64_t token = row_begin; token < row_end; ++token) {
      for (int64_t h = head; h < kv_end; ++h) {
        const int64_t at = (token * t.heads + h) * head_dim;
        for (int64_t d = 0; d < head_dim; d += kLanes) store(t.out + at + d, set1(0.0f));
        rows[num_rows++] = {t.q + at, t.out + at, t.last_seen(sequence, token), kMasked, 0.0f};
      }
      const bool full = num_rows + (kv_end - head) > kMaxAttentionRows;
      if (full || token + 1 == row_end) {
        attend(kv_head, rows, num_rows);
        num_rows = 0;
      }
    }
    head = kv_end;
  }
}

#include "body/attention_bf16.inl"
#include "body/attention_int8.inl"

// Int8Tile: the products of int8 pages on this instruction set.
template <class Int8Tile>
inline void run_attention(const AttentionTask& t, int64_t sequence, int64_t row_begin, int64_t row_end,
                          int64_t head_begin, int64_t head_end) {
  each_run_of_rows(t, sequence, row_begin, row_end, head_begin, head_end,
                   [&](int64_t kv_head, AttentionRow* rows, int64_t num_rows) {
                     if (t.pool->format == KvFormat::int8) {
                       attend_int8<Int8Tile>(t, sequence, kv_head, rows, num_rows);
                     } else {
                       attend_bf16(t, sequence, kv_head, rows, num_rows);
                     }
                   });
}
