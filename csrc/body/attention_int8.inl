// Attention over int8 pages, in integers. With q = c_q * s_q, k = c_k * s_k and v = c_v * s_v (codes c of 8 bits, one
// scale a head of a token), scores to base 2 that have the value's scale in them,
//   t = dot(c_q, c_k) * (s_q log2 e) s_k + log2 s_v,   w = 127 * 2^(t - max of the block's t),
// turn P·V into a product of codes, too: w rounded to whole numbers, 0 to 127, times c_v. The block's largest weight is
// always 127, so a block of faint keys is as fine as one of bright ones, and a value's scale costs no step of w. The sum
// of weights is that of w / s_v before rounding. Both are kept relative to 2^m, m the largest block maximum so far.
//
// Seven bits, not eight: then codes are signed bytes as well, and two products fit 16 bits on the paths that have no
// better instruction. Dots are exact, and everything in floats is done here in one order for all paths; a path brings
// a type, from isa/attention_<isa>.inl:
//
//   kRows       rows that it multiplies at a time
//   kJoinedRows for so many rows and more, the block's pages of V shall lie one behind the other
//   key_dots    (q codes [rows][D], q_zero [rows], rows, pages of K, pages in use, D, dots): dots[r][key] =
//               sum of q code * (key code - 128); q_zero is what the 128 adds up to, for those who do not subtract first
//   value_dots  (weights [rows][64], rows, pages of V, pages in use, D, dots): dots[r * D + d] = sum of weight * code
//
// Both may read, never use, codes of rows up to the next multiple of 16, and of stand-in pages; weights of pages not in
// use are zero.

constexpr int kMostInt8Rows = 16;
constexpr int64_t kNeverJoined = kMaxAttentionRows + 1;
constexpr float kLog2E = 1.44269504f;
constexpr float kWeightBits = 6.98868469f;  // log2 127

struct Int8Block {
  const uint8_t* k[kBlockVectors];
  const int8_t* v[kBlockVectors];
  alignas(64) float k_scale[kAttentionBlock];
  alignas(64) float v_log_scale[kAttentionBlock];
  alignas(64) float v_inverse[kAttentionBlock];  // 2^-v_log_scale
};

// What a run of rows needs beside its AttentionRows.
struct Int8Rows {
  alignas(64) int8_t codes[(kMaxAttentionRows + kMostInt8Rows) * kMaxHeadDim];  // [rows][D]
  alignas(64) float sum[kMaxAttentionRows][kLanes];                             // l, in 16 parts
  float scale[kMaxAttentionRows];                                               // s_q log2 e
  int32_t zero[kMaxAttentionRows];                                              // 128 times the sum of codes
};

// A tile and a block of keys, the last rows of which at least see some of them.
struct Int8Step {
  const Int8Block* block;
  int64_t first_key;
  int64_t begin;  // row
  int count;
  int pages;  // of the block that any of the rows sees
};

// What a step computes.
struct Int8Scratch {
  alignas(64) int32_t dots[kMostInt8Rows * kMaxHeadDim];  // against keys [rows][64], then against values [rows][D]
  alignas(64) float scores[kMostInt8Rows][kAttentionBlock];
  alignas(64) int8_t weights[kMostInt8Rows][kAttentionBlock];
  V16 sums[kMostInt8Rows];              // of weights, in 16 parts
  alignas(64) float largest[kLanes];    // maxima of the block
  alignas(64) float rise[kLanes] = {};  // of those over m
};

HOKKU_INLINE void load_block(const PagePool& pool, const BlockPlaces& places, Int8Block& block) {
  for (int i = 0; i < kBlockVectors; ++i) {
    const int64_t place = places.page[i], at = place * pool.head_bytes();
    block.k[i] = pool.k + at;
    block.v[i] = reinterpret_cast<const int8_t*>(pool.v + at);
    const V16 log_scale = load(pool.v_log_scale + place * kPageTokens);
    store(block.k_scale + i * kLanes, load(pool.k_scale + place * kPageTokens));
    store(block.v_log_scale + i * kLanes, log_scale);
    store(block.v_inverse + i * kLanes, coarse_exp2(sub(set1(0.0f), log_scale)));
  }
}

// Copies the block's values together.
HOKKU_INLINE void join_values(Int8Block& block, int64_t head_dim, int8_t* joined) {
  for (int i = 0; i < kBlockVectors; ++i) {
    int8_t* page = joined + i * kPageTokens * head_dim;
    __builtin_memcpy(page, block.v[i], static_cast<size_t>(kPageTokens * head_dim));
    block.v[i] = page;
  }
}

HOKKU_INLINE void prefetch_block(const PagePool& pool, const BlockPlaces& places) {
  for (int i = 0; i < kBlockVectors; ++i) {
    const int64_t at = places.page[i] * pool.head_bytes();
    for (int64_t byte = 0; byte < pool.head_bytes(); byte += 64) {
      __builtin_prefetch(pool.k + at + byte);
      __builtin_prefetch(pool.v + at + byte);
    }
  }
}

// Vectors of a block that hold the first `seen` keys.
template <bool masked>
HOKKU_INLINE int vectors_seen(int64_t seen) {
  return masked ? static_cast<int>((seen + kLanes - 1) / kLanes) : kBlockVectors;
}

// Turns one row's dots against the first `seen` keys into t; returns the largest.
template <bool masked>
HOKKU_INLINE float block_scores(const int32_t* dots, float q_scale, const Int8Block& block, int64_t seen, float* scores) {
  V16 largest = set1(kMasked);
  for (int i = 0; i < vectors_seen<masked>(seen); ++i) {
    const V16 scale = mul(set1(q_scale), load(block.k_scale + i * kLanes));
    V16 t = fma(to_float(load(dots + i * kLanes)), scale, load(block.v_log_scale + i * kLanes));
    if (masked) t = select(first(seen - i * kLanes), t, set1(kMasked));
    store(scores + i * kLanes, t);
    largest = max(t, largest);
  }
  return reduce_max(largest);
}

// Turns t into weights; returns their sum in 16 parts.
template <bool masked>
HOKKU_INLINE V16 block_weights(const float* scores, float largest, const Int8Block& block, int64_t seen,
                               int8_t* weights) {
  const V16 shift = set1(kWeightBits - largest);
  V16 sum = set1(0.0f);
  for (int i = 0; i < vectors_seen<masked>(seen); ++i) {
    V16 w = coarse_exp2(add(load(scores + i * kLanes), shift));
    if (masked) w = select(first(seen - i * kLanes), w, set1(0.0f));
    store_s8(weights + i * kLanes, round_to_int(w));
    sum = fma(w, load(block.v_inverse + i * kLanes), sum);
  }
  return sum;
}

// From dots against keys to weights. First all rows' maxima, then all rows' weights: each is a long chain of few
// instructions, and neighbours' fill its gaps.
HOKKU_INLINE void weigh_keys(const AttentionRow* row, const Int8Rows& rows, const Int8Step& step, Int8Scratch& s) {
  const Int8Block& block = *step.block;
  for (int r = 0; r < step.count; ++r) {
    const int64_t seen = row[step.begin + r].position + 1 - step.first_key;
    const int32_t* dots = s.dots + r * kAttentionBlock;
    const float scale = rows.scale[step.begin + r];
    s.largest[r] = seen >= kAttentionBlock ? block_scores<false>(dots, scale, block, seen, s.scores[r])
                                           : block_scores<true>(dots, scale, block, seen, s.scores[r]);
    s.rise[r] = s.largest[r] - row[step.begin + r].largest;
  }
  for (int r = 0; r < step.count; ++r) {
    const int64_t seen = row[step.begin + r].position + 1 - step.first_key;
    if (seen >= kAttentionBlock) {
      s.sums[r] = block_weights<false>(s.scores[r], s.largest[r], block, seen, s.weights[r]);
    } else {
      for (int i = 0; i < kBlockVectors; ++i) store_s8(s.weights[r] + i * kLanes, set1(int32_t{0}));
      s.sums[r] = block_weights<true>(s.scores[r], s.largest[r], block, seen, s.weights[r]);
    }
  }
}

// Adds dots against values to the outputs. Of the old m and the block's the larger is the new one: what belongs to the
// other is scaled down to it.
HOKKU_INLINE void add_values(AttentionRow* row, Int8Rows& rows, const Int8Step& step, int64_t head_dim,
                             const Int8Scratch& s) {
  float down[kLanes];
  store(down, coarse_exp2(sub(set1(0.0f), abs(load(s.rise)))));
  for (int r = 0; r < step.count; ++r) {
    AttentionRow& at = row[step.begin + r];
    const bool rises = s.rise[r] > 0.0f;
    const V16 old_factor = set1(rises ? down[r] : 1.0f), new_factor = set1(rises ? 1.0f : down[r]);
    at.largest = rises ? s.largest[r] : at.largest;
    float* sum = rows.sum[step.begin + r];
    store(sum, fma(s.sums[r], new_factor, mul(load(sum), old_factor)));
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      const V16 dots = to_float(load(s.dots + r * head_dim + d));
      store(at.out + d, fma(dots, new_factor, mul(load(at.out + d), old_factor)));
    }
  }
}

// Queries in codes.
HOKKU_INLINE void encode_queries(const AttentionRow* row, int64_t num_rows, int64_t head_dim, Int8Rows& rows) {
  for (int64_t r = 0; r < num_rows; ++r) {
    int8_t* codes = rows.codes + r * head_dim;
    rows.scale[r] = encode_head(row[r].q, head_dim, kSmallestHead, codes) / 127.0f * kLog2E;
    int32_t sum = 0;
    for (int64_t d = 0; d < head_dim; ++d) sum += codes[d];
    rows.zero[r] = 128 * sum;
    store(rows.sum[r], set1(0.0f));
  }
}

// The steps of a run of rows: block after block, in each the rows that see it, tile after tile.
template <class Tile>
class Int8Walk {
 public:
  Int8Walk(const AttentionTask& t, int64_t sequence, int64_t kv_head, const AttentionRow* row, int64_t num_rows)
      : t_(t), sequence_(sequence), kv_head_(kv_head), row_(row), num_rows_(num_rows),
        num_keys_(row[num_rows - 1].position + 1) {}

  // False after the last one. A step's block lasts until the step after next is asked for.
  HOKKU_INLINE bool next(Int8Step& step) {
    if (next_row_ == num_rows_) {
      first_key_ += kAttentionBlock;
      if (first_key_ >= num_keys_) return false;
      begin_block();
    }
    // The last two tiles share what is left evenly: 4 + 3 rows keep more sums going than 6 + 1.
    const int64_t left = num_rows_ - next_row_;
    const int64_t count = left <= Tile::kRows ? left : left < 2 * Tile::kRows ? (left + 1) / 2 : Tile::kRows;
    const int64_t seen = row_[next_row_ + count - 1].position + 1 - first_key_;
    const int64_t pages = seen < kAttentionBlock ? (seen + kPageTokens - 1) / kPageTokens : kBlockVectors;
    step = {&blocks_[block_], first_key_, next_row_, static_cast<int>(count), static_cast<int>(pages)};
    next_row_ += count;
    return true;
  }

 private:
  void begin_block() {
    block_ = 1 - block_;
    Int8Block& block = blocks_[block_];
    load_block(*t_.pool, block_places(t_, sequence_, kv_head_, first_key_, num_keys_), block);
    if (num_rows_ >= Tile::kJoinedRows) join_values(block, t_.pool->head_dim, joined_[block_]);
    // One tile does not take long enough for the memory to bring the next block by itself.
    const int64_t next_key = first_key_ + kAttentionBlock;
    if (num_rows_ <= Tile::kRows && next_key < num_keys_) {
      prefetch_block(*t_.pool, block_places(t_, sequence_, kv_head_, next_key, num_keys_));
    }
    while (row_[first_row_].position < first_key_) ++first_row_;
    next_row_ = first_row_;
  }

  const AttentionTask& t_;
  const int64_t sequence_, kv_head_;
  const AttentionRow* const row_;
  const int64_t num_rows_, num_keys_;
  int64_t first_key_ = -kAttentionBlock, first_row_ = 0, next_row_ = num_rows_;
  int block_ = 0;
  Int8Block blocks_[2];
  alignas(64) int8_t joined_[2][Tile::kJoinedRows < kNeverJoined ? kAttentionBlock * kMaxHeadDim : 1];
};

// All rows of one KV head. The next step's dots come between a step's weights, which are a long chain of few
// instructions, and what needs them.
template <class Tile>
inline void attend_int8(const AttentionTask& t, int64_t sequence, int64_t kv_head, AttentionRow* row,
                        int64_t num_rows) {
  static_assert(Tile::kRows <= kMostInt8Rows);
  const int64_t head_dim = t.pool->head_dim;
  Int8Rows rows;
  encode_queries(row, num_rows, head_dim, rows);

  Int8Walk<Tile> walk(t, sequence, kv_head, row, num_rows);
  Int8Scratch scratch[2];
  const auto multiply_keys = [&](const Int8Step& step, Int8Scratch& s) {
    Tile::key_dots(rows.codes + step.begin * head_dim, rows.zero + step.begin, step.count, step.block->k, step.pages,
                   head_dim, s.dots);
  };
  Int8Step step, next;
  bool more = walk.next(step);
  multiply_keys(step, scratch[0]);
  for (int current = 0; more; current = 1 - current, step = next) {
    Int8Scratch& s = scratch[current];
    weigh_keys(row, rows, step, s);
    more = walk.next(next);
    if (more) multiply_keys(next, scratch[1 - current]);
    Tile::value_dots(s.weights[0], step.count, step.block->v, step.pages, head_dim, s.dots);
    add_values(row, rows, step, head_dim, s);
  }

  for (int64_t r = 0; r < num_rows; ++r) {
    const V16 sum = set1(reduce_add(load(rows.sum[r])));
    for (int64_t d = 0; d < head_dim; d += kLanes) store(row[r].out + d, div(load(row[r].out + d), sum));
  }
}
