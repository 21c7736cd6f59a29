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

// Every value finite: NaN becomes 0 and what bf16 would round to infinity its largest finite value.
HOKKU_INLINE V16 finite(V16 x) {
  const V16 largest = set1(0x1.FEp127f);
  const V16 number = select(equal(x, x), x, set1(0.0f));
  return min(max(number, sub(set1(0.0f), largest)), largest);
}

// ---- bf16 pages ----

// Puts one head's key and value into slot `slot` of their page.
HOKKU_INLINE void write_slot(const float* key, const float* value, int64_t head_dim, int64_t slot, uint16_t* k_page,
                             uint16_t* v_page) {
  uint16_t k_bits[kMaxHeadDim], v_bits[kMaxHeadDim];
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    store_bf16(k_bits + d, finite(load(key + d)));
    store_bf16(v_bits + d, finite(load(value + d)));
  }
  for (int64_t d = 0; d < head_dim; d += 2) {
    __builtin_memcpy(k_page + (d / 2 * kPageTokens + slot) * 2, k_bits + d, 2 * sizeof(uint16_t));
  }
  uint16_t* v_pair = v_page + slot / 2 * head_dim * 2 + slot % 2;
  for (int64_t d = 0; d < head_dim; ++d) v_pair[d * 2] = v_bits[d];
}

// ---- int8 pages ----

// Tokens whose values lie byte by byte next to each other.
constexpr int64_t kValueQuad = 4;
// Heads whose largest magnitude is below these are zeros, so that scales and their inverses stay within floats. Values
// of a head take their power of two into the softmax, whose range is 2^-125 to 1, so theirs is kept well inside.
constexpr float kSmallestHead = 0x1p-100f;
constexpr float kSmallestValueHead = 0x1p-40f;

// codes = x in steps of amax / 127, nearest; returns amax, the largest magnitude of x but no less than `smallest`.
HOKKU_INLINE float encode_head(const float* x, int64_t head_dim, float smallest, int8_t* codes) {
  V16 largest = set1(smallest);
  for (int64_t d = 0; d < head_dim; d += kLanes) largest = max(abs(finite(load(x + d))), largest);
  const float amax = reduce_max(largest);
  const V16 inverse = set1(127.0f / amax);
  for (int64_t d = 0; d < head_dim; d += kLanes) store_s8(codes + d, round_to_int(mul(finite(load(x + d)), inverse)));
  return amax;
}

HOKKU_INLINE void write_key(const float* key, const PagePool& pool, int64_t place, int64_t slot) {
  int8_t codes[kMaxHeadDim];
  pool.k_scale[place * kPageTokens + slot] = encode_head(key, pool.head_dim, kSmallestHead, codes) / 127.0f;
  uint8_t* page = pool.k + place * pool.head_bytes();
  for (int64_t d = 0; d < pool.head_dim; d += 4) {
    uint32_t quad;
    __builtin_memcpy(&quad, codes + d, sizeof quad);
    quad ^= 0x80808080u;  // plus 128
    __builtin_memcpy(page + (d / 4 * kPageTokens + slot) * 4, &quad, sizeof quad);
  }
}

// The values of `count` tokens of one head from slot `slot` on, all of one quad; `stride` floats from token to token.
// Workers may share a quad, so a part of one is written byte by byte.
HOKKU_INLINE void write_values(const float* values, int64_t stride, int64_t count, const PagePool& pool, int64_t place,
                               int64_t slot) {
  int8_t codes[kValueQuad][kMaxHeadDim];
  for (int64_t i = 0; i < count; ++i) {
    const float amax = encode_head(values + i * stride, pool.head_dim, kSmallestValueHead, codes[i]);
    pool.v_log_scale[place * kPageTokens + slot + i] = log2(amax / 127.0f);
  }
  uint8_t* quad = pool.v + place * pool.head_bytes() + slot / kValueQuad * pool.head_dim * kValueQuad;
  if (count == kValueQuad) {
    for (int64_t d = 0; d < pool.head_dim; ++d) {
      const auto byte = [&](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(codes[i][d])); };
      const uint32_t bytes = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
      __builtin_memcpy(quad + d * kValueQuad, &bytes, sizeof bytes);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* bytes = quad + slot % kValueQuad + i;
    for (int64_t d = 0; d < pool.head_dim; ++d) bytes[d * kValueQuad] = static_cast<uint8_t>(codes[i][d]);
  }
}

// ---- Rows ----

HOKKU_INLINE int64_t place_of(const RopeTask& t, int64_t sequence, int64_t position, int64_t kv_head) {
  const int64_t page = t.step->page_table[sequence * t.step->page_table_stride + position / kPageTokens];
  return t.pool->place(t.layer, page, kv_head);
}

// Queries of one row, and its keys; with bf16 pages its values too.
inline void rotate_row(const RopeTask& t, int64_t row, int64_t sequence) {
  const PagePool& pool = *t.pool;
  const int64_t position = t.step->positions[row], slot = position % kPageTokens;
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
  for (int64_t g = 0; g < t.kv_heads; ++g) {
    float k[kMaxHeadDim];
    rotate_head(t, k_in + g * t.head_dim, t.k_gain, cos, sin, k);
    const int64_t place = place_of(t, sequence, position, g);
    if (pool.format == KvFormat::int8) {
      write_key(k, pool, place, slot);
    } else {
      const int64_t at = place * pool.head_bytes();
      write_slot(k, v_in + g * t.head_dim, t.head_dim, slot, reinterpret_cast<uint16_t*>(pool.k + at),
                 reinterpret_cast<uint16_t*>(pool.v + at));
    }
  }
}

inline void rope_and_store(const RopeTask& t, int64_t row_begin, int64_t row_end) {
  const int64_t stride = (t.heads + 2 * t.kv_heads) * t.head_dim;
  int64_t sequence = 0;
  for (int64_t row = row_begin; row < row_end;) {
    while (t.step->row_start[sequence + 1] <= row) ++sequence;
    const int64_t position = t.step->positions[row];
    const int64_t sequence_end = t.step->row_start[sequence + 1] < row_end ? t.step->row_start[sequence + 1] : row_end;
    const int64_t to_quad_end = kValueQuad - position % kValueQuad;
    const int64_t count = to_quad_end < sequence_end - row ? to_quad_end : sequence_end - row;
    for (int64_t i = 0; i < count; ++i) rotate_row(t, row + i, sequence);
    for (int64_t g = 0; t.pool->format == KvFormat::int8 && g < t.kv_heads; ++g) {
      const float* values = t.qkv + row * stride + (t.heads + t.kv_heads + g) * t.head_dim;
      write_values(values, stride, count, *t.pool, place_of(t, sequence, position, g), position % kPageTokens);
    }
    row += count;
  }
}
