// Rotary position embedding (Su et al. 2021, RoFormer) of queries and keys, and the write of keys and values to their
// pages. Pairs are dimensions (i, i + rotary_dim/2), as in GPT-NeoX; what lies beyond rotary_dim passes through.
// The page layouts are in kernels.h; attention.inl is the one that reads them.

constexpr int64_t kMaxHeadDim = 256;

// out = x rotated by the angles of one position, after RMS norm with `gain` where given. x and out may be the same.
HOKKU_INLINE void rotate_head(const RopeTask& t, const float* x, const float* gain, const float* cos, const float* sin,
                              float* out) {
  const int64_t half = t.rotary_dim / 2;
  if (gain != nullptr) {
    const V16 inverse = set1(inverse_rms(x, t.head_dim, t.eps));
    for (int64_t d = 0; d < t.head_dim; d += kLanes) store(out + d, mul(mul(load(x + d), inverse), load(gain + d)));
    x = out;
  }
  for (int64_t d = 0; d < half; d += kLanes) {
    const int64_t n = lanes_from(d, half);
    const V16 a = load_n(x + d, n), b = load_n(x + half + d, n);
    const V16 c = load_n(cos + d, n), s = load_n(sin + d, n);
    store_n(out + d, fma(a, c, sub(set1(0.0f), mul(b, s))), n);
    store_n(out + half + d, fma(b, c, mul(a, s)), n);
  }
  if (x == out) return;
  for (int64_t d = 2 * half; d < t.head_dim; d += kLanes) {
    const int64_t n = lanes_from(d, t.head_dim);
    store_n(out + d, load_n(x + d, n), n);
  }
}

// bf16 with every value finite: NaN becomes 0 and what would round to infinity the largest finite value.
HOKKU_INLINE void store_finite_bf16(uint16_t* out, V16 x) {
  const V16 largest = set1(0x1.FEp127f);
  const V16 number = select(equal(x, x), x, set1(0.0f));
  store_bf16(out, min(max(number, sub(set1(0.0f), largest)), largest));
}

// Puts one head's key and value into slot `slot` of their page.
HOKKU_INLINE void write_slot(const float* key, const float* value, int64_t head_dim, int64_t slot, uint16_t* k_page,
                             uint16_t* v_page) {
  uint16_t k_bits[kMaxHeadDim], v_bits[kMaxHeadDim];
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    store_finite_bf16(k_bits + d, load(key + d));
    store_finite_bf16(v_bits + d, load(value + d));
  }
  for (int64_t d = 0; d < head_dim; d += 2) {
    __builtin_memcpy(k_page + (d / 2 * kPageTokens + slot) * 2, k_bits + d, 2 * sizeof(uint16_t));
  }
  uint16_t* v_pair = v_page + slot / 2 * head_dim * 2 + slot % 2;
  for (int64_t d = 0; d < head_dim; ++d) v_pair[d * 2] = v_bits[d];
}

inline void rope_and_store_row(const RopeTask& t, int64_t row, int64_t sequence) {
  const PagePool& pool = *t.pool;
  const int64_t position = t.step->positions[row];
  const int64_t page = t.step->page_table[sequence * t.step->page_table_stride + position / kPageTokens];
  const float* cos = t.cos + position * (t.rotary_dim / 2);
  const float* sin = t.sin + position * (t.rotary_dim / 2);
  const float* q_in = t.qkv + row * (t.heads + 2 * t.kv_heads) * t.head_dim;
  const float* k_in = q_in + t.heads * t.head_dim;
  const float* v_in = k_in + t.kv_heads * t.head_dim;

  float* q_out = t.q + row * t.heads * t.head_dim;
  for (int64_t h = 0; h < t.heads; ++h) {
    float* q = q_out + h * t.head_dim;
    rotate_head(t, q_in + h * t.head_dim, t.q_gain, cos, sin, q);
    for (int64_t d = 0; d < t.head_dim; d += kLanes) store(q + d, mul(load(q + d), set1(t.q_scale)));
  }
  const int64_t at = t.layer * pool.layer_elements() + page * pool.page_elements();
  for (int64_t g = 0; g < t.kv_heads; ++g) {
    float k[kMaxHeadDim];
    rotate_head(t, k_in + g * t.head_dim, t.k_gain, cos, sin, k);
    const int64_t head = at + g * t.head_dim * kPageTokens;
    write_slot(k, v_in + g * t.head_dim, t.head_dim, position % kPageTokens, pool.k + head, pool.v + head);
  }
}

inline void rope_and_store(const RopeTask& t, int64_t row_begin, int64_t row_end) {
  int64_t sequence = 0;
  for (int64_t row = row_begin; row < row_end; ++row) {
    while (t.step->row_start[sequence + 1] <= row) ++sequence;
    rope_and_store_row(t, row, sequence);
  }
}
