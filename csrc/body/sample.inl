// Draws tokens from logits: temperature, then the top_k likeliest, then the smallest set of the likeliest whose share
// reaches top_p (nucleus sampling, Holtzman et al. 2020), from a generator that a seed and a counter name.
//
// Nothing is sorted. "The k likeliest" and "the likeliest that make up p" are both {tokens whose logit is >= t}, with
// equal logits taken from the lowest id on; t is found by bisection over the ordered bit patterns of floats, each
// probe one pass over the vocabulary. Sums run in one fixed order, and adding non-negative terms in a fixed order is
// monotone, so the bisection is exact.

constexpr float kLowestFloat = -0x1.FFFFFEp127f;
constexpr float kMinusInfinity = -__builtin_inff();
// Tokens whose weights are summed as one when the draw looks for its place.
constexpr int64_t kDrawChunk = 1024;

// One row's candidates, padded to whole vectors with x = -infinity, w = 0.
struct Candidates {
  float* x;  // logits: finite where the token may be drawn, else -infinity
  float* w;  // weights: e^((x - largest) / temperature), or 0 where cut
  int64_t n;
};

// Signed integers in the order of the floats they stand for.
HOKKU_INLINE int32_t order_of(float x) {
  const int32_t bits = __builtin_bit_cast(int32_t, x);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
HOKKU_INLINE float float_at(int32_t order) { return __builtin_bit_cast(float, order ^ ((order >> 31) & 0x7FFFFFFF)); }

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): 53 random bits in [0, 1).
inline double uniform(uint64_t seed, uint64_t counter) {
  uint32_t x[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * x[0], b = uint64_t{0xCD9E8D57} * x[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ x[1] ^ key[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ x[3] ^ key[1], static_cast<uint32_t>(a)};
    __builtin_memcpy(x, next, sizeof x);
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  const uint64_t bits = (static_cast<uint64_t>(x[0]) << 32 | x[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

// sum of value(k) over k = begin, begin + 16, ...: four vectors of sums side by side, joined pairwise.
template <class Value>
HOKKU_INLINE float sum_vectors(int64_t begin, int64_t end, const Value& value) {
  V16 sum[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
  int64_t k = begin;
  for (; k + 4 * kLanes <= end; k += 4 * kLanes) {
    for (int i = 0; i < 4; ++i) sum[i] = add(sum[i], value(k + i * kLanes));
  }
  for (; k < end; k += kLanes) sum[0] = add(sum[0], value(k));
  return reduce_add(add(add(sum[0], sum[1]), add(sum[2], sum[3])));
}

HOKKU_INLINE float largest_of(const float* x, int64_t n) {
  V16 largest[4] = {set1(kMinusInfinity), set1(kMinusInfinity), set1(kMinusInfinity), set1(kMinusInfinity)};
  int64_t k = 0;
  for (; k + 4 * kLanes <= n; k += 4 * kLanes) {
    for (int i = 0; i < 4; ++i) largest[i] = max(load(x + k + i * kLanes), largest[i]);
  }
  for (; k < n; k += kLanes) largest[0] = max(load(x + k), largest[0]);
  return reduce_max(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
}

HOKKU_INLINE int64_t first_equal(const float* x, int64_t n, float wanted) {
  for (int64_t k = 0; k < n; k += kLanes) {
    const uint32_t bits = to_bits(equal(load(x + k), set1(wanted)));
    if (bits != 0) return k + __builtin_ctz(bits);
  }
  return 0;
}

// Logits into x, every one finite (what is not a number counts as the lowest), the padding -infinity.
inline void copy_finite(const float* logits, int64_t vocabulary, const Candidates& c) {
  for (int64_t k = 0; k < c.n; k += kLanes) {
    const int64_t lanes = lanes_from(k, vocabulary);
    const V16 x = min(max(load_n(logits + k, lanes), set1(kLowestFloat)), set1(-kLowestFloat));
    store(c.x + k, select(first(lanes), x, set1(kMinusInfinity)));
  }
}

inline void forbid_all_but(const uint32_t* allowed, const Candidates& c) {
  for (int64_t k = 0; k < c.n; k += kLanes) {
    const M16 mask = from_bits((allowed[k / 32] >> (k % 32)) & 0xFFFFu);
    store(c.x + k, select(mask, load(c.x + k), set1(kMinusInfinity)));
  }
}

// Weight of the candidates whose logit is at least t. (The comparison keeps x = t: not x < t.)
HOKKU_INLINE float mass_from(const Candidates& c, float t) {
  return sum_vectors(0, c.n, [&](int64_t k) {
    return select(less(load(c.x + k), set1(t)), set1(0.0f), load(c.w + k));
  });
}
// Their number, exact below 2^24.
HOKKU_INLINE float count_from(const Candidates& c, float t) {
  return sum_vectors(0, c.n, [&](int64_t k) { return select(less(load(c.x + k), set1(t)), set1(0.0f), set1(1.0f)); });
}

// The largest t for which measure(t) >= wanted; measure falls as t grows and reaches `wanted` at the lowest float.
template <class Measure>
HOKKU_INLINE float bisect(float largest, float wanted, const Measure& measure) {
  int64_t low = order_of(kLowestFloat), high = order_of(largest);
  while (low < high) {
    const int64_t middle = high - (high - low) / 2;
    if (measure(float_at(static_cast<int32_t>(middle))) >= wanted) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return float_at(static_cast<int32_t>(low));
}

// Cuts all candidates below t, and all that equal it but the first `equals`.
inline void cut_below(const Candidates& c, float t, int64_t equals) {
  for (int64_t k = 0; k < c.n; k += kLanes) {
    const V16 x = load(c.x + k);
    uint32_t keep = to_bits(less(set1(t), x));
    for (uint32_t rest = to_bits(equal(x, set1(t))); rest != 0 && equals > 0; rest &= rest - 1, --equals) {
      keep |= rest & (~rest + 1);
    }
    store(c.w + k, select(from_bits(keep), load(c.w + k), set1(0.0f)));
  }
}

inline void keep_top_k(const Candidates& c, float largest, int64_t top_k) {
  const float wanted = static_cast<float>(top_k);
  if (count_from(c, kLowestFloat) <= wanted) return;
  const float t = bisect(largest, wanted, [&](float from) { return count_from(c, from); });
  const float above = t < largest ? count_from(c, float_at(order_of(t) + 1)) : 0.0f;
  cut_below(c, t, top_k - static_cast<int64_t>(above));
}

inline void keep_top_p(const Candidates& c, float largest, float temperature, float top_p) {
  const float wanted = top_p * mass_from(c, kLowestFloat);
  const float t = bisect(largest, wanted, [&](float from) { return mass_from(c, from); });
  const float above = t < largest ? mass_from(c, float_at(order_of(t) + 1)) : 0.0f;
  float weight[kLanes];
  store(weight, exp(set1((t - largest) / temperature)));
  const float equals = __builtin_ceilf((wanted - above) / weight[0]);
  cut_below(c, t, equals > 1.0f ? static_cast<int64_t>(equals) : 1);
}

HOKKU_INLINE double chunk_weight(const Candidates& c, int64_t begin) {
  const int64_t end = begin + kDrawChunk < c.n ? begin + kDrawChunk : c.n;
  return static_cast<double>(sum_vectors(begin, end, [&](int64_t k) { return load(c.w + k); }));
}

// The candidate at `share` (in [0, 1)) of the total weight, ids in order.
inline int64_t draw_at(const Candidates& c, double share) {
  double total = 0;
  for (int64_t begin = 0; begin < c.n; begin += kDrawChunk) total += chunk_weight(c, begin);
  double left = share * total;
  int64_t begin = 0, last = 0;
  for (; begin < c.n; begin += kDrawChunk) {
    const double weight = chunk_weight(c, begin);
    if (weight > 0) last = begin;
    if (left < weight) break;
    left -= weight;
  }
  // Rounding may carry `left` past the last chunk or token of weight: then that one is drawn.
  begin = begin < c.n ? begin : last;
  const int64_t end = begin + kDrawChunk < c.n ? begin + kDrawChunk : c.n;
  int64_t drawn = begin;
  for (int64_t id = begin; id < end; ++id) {
    if (c.w[id] == 0.0f) continue;
    drawn = id;
    left -= static_cast<double>(c.w[id]);
    if (left < 0) break;
  }
  return drawn;
}

inline int64_t draw_token(const Step& step, const Candidates& c, int64_t row) {
  const float largest = largest_of(c.x, c.n);
  const float temperature = step.temperature[row];
  if (temperature == 0.0f) return first_equal(c.x, c.n, largest);
  for (int64_t k = 0; k < c.n; k += kLanes) {
    store(c.w + k, exp(div(sub(load(c.x + k), set1(largest)), set1(temperature))));
  }
  if (step.top_k[row] > 0) keep_top_k(c, largest, step.top_k[row]);
  if (step.top_p[row] < 1.0f) keep_top_p(c, largest, temperature, step.top_p[row]);
  return draw_at(c, uniform(step.seed[row], step.counter[row]));
}

inline void sample(const Step& step, const float* logits, int64_t stride, int64_t vocabulary, float* scratch,
                   int64_t begin, int64_t end) {
  const int64_t padded = (vocabulary + kLanes - 1) / kLanes * kLanes;
  const Candidates c{scratch, scratch + stride, padded};
  for (int64_t row = begin; row < end; ++row) {
    copy_finite(logits + row * stride, vocabulary, c);
    const float largest = largest_of(c.x, c.n);
    const float total = sum_vectors(0, c.n, [&](int64_t k) { return exp(sub(load(c.x + k), set1(largest))); });
    if (step.allowed != nullptr) forbid_all_but(step.allowed + row * ((vocabulary + 31) / 32), c);
    const int64_t token = draw_token(step, c, row);
    step.sampled[row] = static_cast<int32_t>(token);
    step.logprob[row] = c.x[token] - largest - static_cast<float>(__builtin_log(static_cast<double>(total)));
  }
}
