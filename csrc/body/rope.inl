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
constexpr int64_t kQuadTokens = 4;
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

// Four codes of a key as a page has them.
HOKKU_INLINE uint32_t stored_quad(const int8_t* codes) {
  uint32_t quad;
  __builtin_memcpy(&quad, codes, sizeof quad);
  return quad ^ 0x80808080u;  // plus 128
}

// The keys of `count` tokens of one head to their place from slot `slot` on, all of one quad.
HOKKU_INLINE void write_keys(const int8_t (*codes)[kMaxHeadDim], int64_t count, const PagePool& pool, int64_t place,
                             int64_t slot) {
  uint8_t* page = pool.k + place * pool.head_bytes() + slot * 4;
  if (count == kQuadTokens) {
    for (int64_t d = 0; d < pool.head_dim; d += 4) {
      uint32_t quads[kQuadTokens];
      for (int64_t i = 0; i < kQuadTokens; ++i) quads[i] = stored_quad(codes[i] + d);
      __builtin_memcpy(page + d * kPageTokens, quads, sizeof quads);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t d = 0; d < pool.head_dim; d += 4) {
      const uint32_t quad = stored_quad(codes[i] + d);
      __builtin_memcpy(page + d * kPageTokens + i * 4, &quad, sizeof quad);
    }
  }
}

// The values of `count` tokens of one head from slot `slot` on, all of one quad; `stride` floats from token to token.
// Workers may share a quad, so a part of one is written byte by byte.
HOKKU_INLINE void write_values(const float* values, int64_t stride, int64_t count, const PagePool& pool, int64_t place,
                               int64_t slot) {
  int8_t codes[kQuadTokens][kMaxHeadDim];
  for (int64_t i = 0; i < count; ++i) {
    const float amax = encode_head(values + i * stride, pool.head_dim, kSmallestValueHead, codes[i]);
    pool.v_log_scale[place * kPageTokens + slot + i] = log2(amax / 127.0f);
  }
  uint8_t* quad = pool.v + place * pool.head_bytes() + slot / kQuadTokens * pool.head_dim * kQuadTokens;
  if (count == kQuadTokens) {
    for (int64_t d = 0; d < pool.head_dim; ++d) {
      const auto byte = [&](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(codes[i][d])); };
      const uint32_t bytes = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
      __builtin_memcpy(quad + d * kQuadTokens, &bytes, sizeof bytes);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* bytes = quad + slot % kQuadTokens + i;
    for (int64_t d = 0; d < pool.head_dim; ++d) bytes[d * kQuadTokens] = static_cast<uint8_t>(codes[i][d]);
  }
}

// ---- Rows ----

HOKKU_INLINE int64_t place_of(const RopeTask& t, int64_t sequence, int64_t position, int64_t kv_head) {
  const int64_t page = t.step->page_table[sequence * t.step->page_table_stride + position / kPageTokens];
  return t.pool->place(t.layer, page, kv_head);
}

// Tokens of one sequence whose positions lie in one quad.
struct RopeRun {
  int64_t sequence;
  int64_t row;  // of the first
  int64_t count;
  int64_t position;
};

// The run that begins with `row`, of `sequence`.
HOKKU_INLINE RopeRun run_from(const Step& step, int64_t row, int64_t row_end, int64_t sequence) {
  const int64_t position = step.positions[row], to_quad_end = kQuadTokens - position % kQuadTokens;
  const int64_t sequence_end = step.row_start[sequence + 1] < row_end ? step.row_start[sequence + 1] : row_end;
  return {sequence, row, to_quad_end < sequence_end - row ? to_quad_end : sequence_end - row, position};
}

HOKKU_INLINE const float* qkv_row(const RopeTask& t, int64_t row) {
  return t.qkv + row * (t.heads + 2 * t.kv_heads) * t.head_dim;
}

// What one row is rotated by: a row of the tables, or parts of several.
struct Angles {
  const float* cos;
  const float* sin;
  float parts[2][kMaxHeadDim / 2];
};

inline void find_angles(const RopeTask& t, int64_t row, Angles& angles) {
  const int64_t half = t.rotary_dim / 2;
  if (t.step->rope_positions == nullptr) {
    angles.cos = t.cos + t.step->positions[row] * half;
    angles.sin = t.sin + t.step->positions[row] * half;
    return;
  }
  const int32_t* positions = t.step->rope_positions + row * t.step->rope_axes;
  for (int64_t axis = 0, begin = 0; axis < t.step->rope_axes; begin += t.sections[axis++]) {
    const auto bytes = static_cast<size_t>(t.sections[axis]) * sizeof(float);
    __builtin_memcpy(angles.parts[0] + begin, t.cos + positions[axis] * half + begin, bytes);
    __builtin_memcpy(angles.parts[1] + begin, t.sin + positions[axis] * half + begin, bytes);
  }
  angles.cos = angles.parts[0];
  angles.sin = angles.parts[1];
}

// A head of one row rotated.
HOKKU_INLINE void rotate(const RopeTask& t, const Angles& angles, int64_t row, int64_t head, const float* gain,
                         float* out) {
  rotate_head(t, qkv_row(t, row) + head * t.head_dim, gain, angles.cos, angles.sin, out);
}

inline void rotate_queries(const RopeTask& t, const Angles& angles, int64_t row) {
  for (int64_t h = 0; h < t.heads; ++h) {
    float* q = t.q + (row * t.heads + h) * t.head_dim;
    rotate(t, angles, row, h, t.q_gain, q);
    for (int64_t d = 0; d < t.head_dim; d += kLanes) store(q + d, mul(load(q + d), set1(t.q_scale)));
  }
}

// Keys and values of one KV head, to bf16 pages.
inline void store_bf16_head(const RopeTask& t, const RopeRun& run, const Angles* angles, int64_t kv_head) {
  const PagePool& pool = *t.pool;
  const int64_t at = place_of(t, run.sequence, run.position, kv_head) * pool.head_bytes();
  for (int64_t i = 0; i < run.count; ++i) {
    float key[kMaxHeadDim];
    rotate(t, angles[i], run.row + i, t.heads + kv_head, t.k_gain, key);
    write_slot(key, qkv_row(t, run.row + i) + (t.heads + t.kv_heads + kv_head) * t.head_dim, t.head_dim,
               run.position % kPageTokens + i, reinterpret_cast<uint16_t*>(pool.k + at),
               reinterpret_cast<uint16_t*>(pool.v + at));
  }
}

// Likewise, to int8 pages.
inline void store_int8_head(const RopeTask& t, const RopeRun& run, const Angles* angles, int64_t kv_head) {
  const PagePool& pool = *t.pool;
  const int64_t place = place_of(t, run.sequence, run.position, kv_head), slot = run.position % kPageTokens;
  int8_t codes[kQuadTokens][kMaxHeadDim];
  for (int64_t i = 0; i < run.count; ++i) {
    float key[kMaxHeadDim];
    rotate(t, angles[i], run.row + i, t.heads + kv_head, t.k_gain, key);
    const float amax = encode_head(key, t.head_dim, kSmallestHead, codes[i]);
    pool.k_scale[place * kPageTokens + slot + i] = amax / 127.0f;
  }
  write_keys(codes, run.count, pool, place, slot);
  write_values(qkv_row(t, run.row) + (t.heads + t.kv_heads + kv_head) * t.head_dim,
               (t.heads + 2 * t.kv_heads) * t.head_dim, run.count, pool, place, slot);
}

inline void rope_and_store(const RopeTask& t, int64_t row_begin, int64_t row_end) {
  int64_t sequence = 0;
  for (int64_t row = row_begin; row < row_end;) {
    while (t.step->row_start[sequence + 1] <= row) ++sequence;
    const RopeRun run = run_from(*t.step, row, row_end, sequence);
    Angles angles[kQuadTokens];
    for (int64_t i = 0; i < run.count; ++i) {
      find_angles(t, run.row + i, angles[i]);
      rotate_queries(t, angles[i], run.row + i);
    }
    for (int64_t g = 0; g < t.kv_heads; ++g) {
      if (t.pool->format == KvFormat::int8) {
        store_int8_head(t, run, angles, g);
      } else {
        store_bf16_head(t, run, angles, g);
      }
    }
    row += run.count;
  }
}
