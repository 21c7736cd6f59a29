// Attention over bf16 pages, in floats. Scores of kTileRows rows against 64 keys are held in registers while one
// dimension after the other goes by; then their outputs, while one key after the other does. Many tiles: K and V blocks
// are widened to floats once, in scratch. Few (decode): widened on the way.

struct Bf16Pages {
  const uint16_t* k[kBlockVectors];
  const uint16_t* v[kBlockVectors];
};

struct FloatBlock {
  const float* k;  // [D][64 keys]
  const float* v;  // [64 keys][D]
};

HOKKU_INLINE Bf16Pages bf16_pages(const PagePool& pool, const BlockPlaces& places) {
  Bf16Pages pages;
  for (int i = 0; i < kBlockVectors; ++i) {
    const int64_t at = places.page[i] * pool.head_bytes();
    pages.k[i] = reinterpret_cast<const uint16_t*>(pool.k + at);
    pages.v[i] = reinterpret_cast<const uint16_t*>(pool.v + at);
  }
  return pages;
}

HOKKU_INLINE FloatBlock widen_block(const Bf16Pages& pages, int64_t head_dim, float* k, float* v) {
  for (int i = 0; i < kBlockVectors; ++i) {
    for (int64_t d = 0; d < head_dim; d += 2) {
      V16 even, odd;
      load_bf16_pairs(pages.k[i] + d * kPageTokens, even, odd);
      store(k + d * kAttentionBlock + i * kLanes, even);
      store(k + (d + 1) * kAttentionBlock + i * kLanes, odd);
    }
    for (int64_t key = 0; key < kPageTokens; key += 2) {
      for (int64_t d = 0; d < head_dim; d += kLanes) {
        V16 even, odd;
        load_bf16_pairs(pages.v[i] + (key * head_dim + d * 2), even, odd);
        float* at = v + (i * kPageTokens + key) * head_dim + d;
        store(at, even);
        store(at + head_dim, odd);
      }
    }
  }
  return {k, v};
}

// Two sources of keys and values, with the same arithmetic behind both: dimension d of 16 keys, 16 dimensions of a key.
struct Widened {
  FloatBlock block;
  int64_t head_dim;
  HOKKU_INLINE V16 keys(int i, int64_t d) const { return load(block.k + d * kAttentionBlock + i * kLanes); }
  HOKKU_INLINE V16 values(int64_t key, int64_t d) const { return load(block.v + key * head_dim + d); }
};
struct Stored {
  Bf16Pages pages;
  int64_t head_dim;
  HOKKU_INLINE V16 keys(int i, int64_t d) const { return half(pages.k[i] + d / 2 * 2 * kPageTokens, d); }
  HOKKU_INLINE V16 values(int64_t key, int64_t d) const {
    const int64_t in_page = key % kPageTokens;
    return half(pages.v[key / kPageTokens] + in_page / 2 * 2 * head_dim + d * 2, key);
  }
  // Loops go by pairs, so `place` is known to be even or odd where this is compiled.
  static HOKKU_INLINE V16 half(const uint16_t* pairs, int64_t place) {
    V16 even, odd;
    load_bf16_pairs(pairs, even, odd);
    return place % 2 == 0 ? even : odd;
  }
};

// scores[r] = q_r · K for kTileVectors vectors of keys from vector `first` on, dimensions in order.
template <int rows, class Source>
HOKKU_INLINE void tile_scores(const AttentionRow* row, const Source& source, int first,
                              float (*scores)[kAttentionBlock]) {
  V16 sum[rows][kTileVectors];
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < kTileVectors; ++i) sum[r][i] = set1(0.0f);
  }
  for (int64_t pair = 0; pair < source.head_dim; pair += 2) {
    for (int64_t d = pair; d < pair + 2; ++d) {
      V16 keys[kTileVectors];
      for (int i = 0; i < kTileVectors; ++i) keys[i] = source.keys(first + i, d);
      for (int r = 0; r < rows; ++r) {
        const V16 q = set1(row[r].q[d]);
        for (int i = 0; i < kTileVectors; ++i) sum[r][i] = fma(q, keys[i], sum[r][i]);
      }
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < kTileVectors; ++i) store(scores[r] + (first + i) * kLanes, sum[r][i]);
  }
}

// Turns one row's scores into weights and brings its running maximum and sum up to date.
// Returns the factor for what was summed up before.
HOKKU_INLINE float softmax_step(AttentionRow& row, int64_t first_key, float* scores) {
  const int64_t num_seen = row.position + 1 - first_key;
  V16 largest = set1(kMasked);
  for (int i = 0; i < kBlockVectors; ++i) {
    const V16 s = select(first(num_seen - i * kLanes), load(scores + i * kLanes), set1(kMasked));
    largest = max(s, largest);
  }
  const float block_largest = reduce_max(largest);
  const float previous = row.largest;
  row.largest = block_largest > previous ? block_largest : previous;

  V16 sum = set1(0.0f);
  for (int i = 0; i < kBlockVectors; ++i) {
    const V16 weight = exp(sub(load(scores + i * kLanes), set1(row.largest)));
    const V16 p = select(first(num_seen - i * kLanes), weight, set1(0.0f));
    store(scores + i * kLanes, p);
    sum = add(sum, p);
  }
  float factor[kLanes];
  store(factor, exp(set1(previous - row.largest)));
  row.sum = row.sum * factor[0] + reduce_add(sum);
  return factor[0];
}

// out_r = out_r * factor_r + p_r · V for `vectors` vectors of dimensions from d on, keys in order.
template <int rows, int vectors, class Source>
HOKKU_INLINE void tile_outputs(const AttentionRow* row, const float* factor, const Source& source,
                               const float (*scores)[kAttentionBlock], int64_t num_keys, int64_t d) {
  V16 sum[rows][vectors];
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors; ++i) sum[r][i] = mul(load(row[r].out + d + i * kLanes), set1(factor[r]));
  }
  for (int64_t pair = 0; pair < num_keys; pair += 2) {
    for (int64_t key = pair; key < pair + 2; ++key) {
      V16 values[vectors];
      for (int i = 0; i < vectors; ++i) values[i] = source.values(key, d + i * kLanes);
      for (int r = 0; r < rows; ++r) {
        const V16 p = set1(scores[r][key]);
        for (int i = 0; i < vectors; ++i) sum[r][i] = fma(p, values[i], sum[r][i]);
      }
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors; ++i) store(row[r].out + d + i * kLanes, sum[r][i]);
  }
}

template <int rows, class Source>
inline void attend_bf16_tile(AttentionRow* row, const Source& source, int64_t first_key) {
  int64_t last = row[0].position;
  for (int r = 1; r < rows; ++r) last = row[r].position > last ? row[r].position : last;
  if (last < first_key) return;
  const int64_t seen = last + 1 - first_key;
  // An even number of keys; the odd one out is masked, its weight zero.
  const int64_t num_keys = seen < kAttentionBlock ? (seen + 1) / 2 * 2 : kAttentionBlock;

  alignas(64) float scores[rows][kAttentionBlock];
  float factor[rows];
  for (int i = 0; i < kBlockVectors; i += kTileVectors) tile_scores<rows>(row, source, i, scores);
  for (int r = 0; r < rows; ++r) factor[r] = softmax_step(row[r], first_key, scores[r]);
  int64_t d = 0;
  for (; d + kTileVectors * kLanes <= source.head_dim; d += kTileVectors * kLanes) {
    tile_outputs<rows, kTileVectors>(row, factor, source, scores, num_keys, d);
  }
  for (; d < source.head_dim; d += kLanes) tile_outputs<rows, 1>(row, factor, source, scores, num_keys, d);
}

template <int rows, class Source>
inline void attend_bf16_rest(AttentionRow* row, int64_t num_rows, const Source& source, int64_t first_key) {
  if constexpr (rows > 0) {
    if (num_rows == rows) return attend_bf16_tile<rows>(row, source, first_key);
    attend_bf16_rest<rows - 1>(row, num_rows, source, first_key);
  }
}

template <class Source>
inline void attend_bf16_rows(AttentionRow* row, int64_t num_rows, const Source& source, int64_t first_key) {
  int64_t r = 0;
  for (; r + kTileRows <= num_rows; r += kTileRows) attend_bf16_tile<kTileRows>(row + r, source, first_key);
  attend_bf16_rest<kTileRows - 1>(row + r, num_rows - r, source, first_key);
}

// All rows of one KV head.
inline void attend_bf16(const AttentionTask& t, int64_t sequence, int64_t kv_head, AttentionRow* row, int64_t num_rows) {
  alignas(64) float k[kMaxHeadDim * kAttentionBlock];
  alignas(64) float v[kMaxHeadDim * kAttentionBlock];
  const int64_t head_dim = t.pool->head_dim;
  const int64_t num_keys = row[num_rows - 1].position + 1;
  for (int64_t first_key = 0; first_key < num_keys; first_key += kAttentionBlock) {
    const Bf16Pages pages = bf16_pages(*t.pool, block_places(t, sequence, kv_head, first_key, num_keys));
    // Up to two tiles, widening twice costs less than the way through scratch.
    if (num_rows <= 2 * kTileRows) {
      attend_bf16_rows(row, num_rows, Stored{pages, head_dim}, first_key);
    } else {
      attend_bf16_rows(row, num_rows, Widened{widen_block(pages, head_dim, k, v), head_dim}, first_key);
    }
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    const V16 sum = set1(row[r].sum);
    for (int64_t d = 0; d < head_dim; d += kLanes) store(row[r].out + d, div(load(row[r].out + d), sum));
  }
}
