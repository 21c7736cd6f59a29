// Draws tokens from logits: temperature, then the top_k likeliest, then the smallest set of the likeliest whose share
// reaches top_p (nucleus sampling, Holtzman et al. 2020), from a generator that a seed and a counter name.
//
// Nothing is sorted. "The k likeliest" and "the likeliest that make up p" are both {tokens whose logit is >= t}, with
// equal logits taken from the lowest id on; t is found by bisection, each probe one pass over the candidates that are
// left. Sums run in one fixed order, so every path finds the same t; and adding non-negative terms in a fixed order is
// monotone, so probes of the same candidates never contradict each other.

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

// Where a threshold is sought: some candidates, and the measure of all those above them. The measure of a candidate
// is its weight, or 1 where there are no weights (a count, exact below 2^24).
struct Search {
  const float* x;
  const float* w;
  int64_t n;
  float above;
};

// Of the candidates whose logit is at least t. (The comparison keeps x = t: not x < t.)
HOKKU_INLINE float measure_from(const Search& s, float t) {
  const float sum = sum_vectors(0, s.n, [&](int64_t k) {
    const V16 one = s.w == nullptr ? set1(1.0f) : load(s.w + k);
    return select(less(load(s.x + k), set1(t)), set1(0.0f), one);
  });
  return s.above + sum;
}

// Copies the candidates with low <= x <= high to `room`, ids in order: the few that are left of a vocabulary.
inline Search narrow(const Search& s, float low, float high, float largest, float* room) {
  Search few{room, s.w == nullptr ? nullptr : room + s.n, 0, 0.0f};
  if (high < largest) few.above = measure_from(s, float_at(order_of(high) + 1));
  for (int64_t k = 0; k < s.n; k += kLanes) {
    const V16 x = load(s.x + k);
    const uint32_t outside = to_bits(less(x, set1(low))) | to_bits(less(set1(high), x));
    for (uint32_t inside = ~outside & 0xFFFFu; inside != 0; inside &= inside - 1, ++few.n) {
      const int64_t id = k + __builtin_ctz(inside);
      room[few.n] = s.x[id];
      if (s.w != nullptr) room[s.n + few.n] = s.w[id];
    }
  }
  for (; few.n % kLanes != 0; ++few.n) {
    room[few.n] = kMinusInfinity;
    room[s.n + few.n] = 0.0f;
  }
  return few;
}

// The largest t for which measure_from(t) >= wanted, which holds at the lowest float. First by steps down from the
// largest logit, as the likeliest tokens lie close together; then by halves of what is between; then, among the few
// candidates there, by halves of the floats' order.
inline float threshold(Search s, float largest, float wanted, float* room) {
  float low = kLowestFloat, high = largest;
  const auto probe = [&](float t) {
    const bool reached = measure_from(s, t) >= wanted;
    if (reached) low = t;
    if (!reached) high = float_at(order_of(t) - 1);
    return reached;
  };
  for (float step = 0.5f; largest - step > kLowestFloat && !probe(largest - step);) step *= 4.0f;
  for (int halves = 0; halves < 5; ++halves) {
    const float middle = low + (high - low) * 0.5f;
    if (low < middle && middle <= high) probe(middle);
  }
  s = narrow(s, low, high, largest, room);
  while (low < high) {
    const int64_t first = order_of(low), last = order_of(high);
    probe(float_at(static_cast<int32_t>(last - (last - first) / 2)));
  }
  return low;
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

inline void keep_top_k(const Candidates& c, float largest, int64_t top_k, float* room) {
  const Search all{c.x, nullptr, c.n, 0.0f};
  const float wanted = static_cast<float>(top_k);
  if (measure_from(all, kLowestFloat) <= wanted) return;
  const float t = threshold(all, largest, wanted, room);
  const float above = t < largest ? measure_from(all, float_at(order_of(t) + 1)) : 0.0f;
  cut_below(c, t, top_k - static_cast<int64_t>(above));
}

inline void keep_top_p(const Candidates& c, float largest, float temperature, float top_p, float* room) {
  const Search all{c.x, c.w, c.n, 0.0f};
  const float wanted = top_p * measure_from(all, kLowestFloat);
  const float t = threshold(all, largest, wanted, room);
  const float above = t < largest ? measure_from(all, float_at(order_of(t) + 1)) : 0.0f;
  float weight[kLanes];
  store(weight, exp(set1((t - largest) / temperature)));
  const float equals = __builtin_ceilf((wanted - above) / weight[0]);
  // Where the weight has underflowed to 0, all equals are as good as one.
  const bool several = equals > 1.0f && equals <= static_cast<float>(c.n);
  cut_below(c, t, several ? static_cast<int64_t>(equals) : 1);
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

inline int64_t draw_token(const Step& step, const Candidates& c, int64_t row, float* room) {
  const float largest = largest_of(c.x, c.n);
  const float temperature = step.temperature[row];
  if (temperature == 0.0f) return first_equal(c.x, c.n, largest);
  for (int64_t k = 0; k < c.n; k += kLanes) {
    store(c.w + k, exp(div(sub(load(c.x + k), set1(largest)), set1(temperature))));
  }
  if (step.top_k[row] > 0) keep_top_k(c, largest, step.top_k[row], room);
  if (step.top_p[row] < 1.0f) keep_top_p(c, largest, temperature, step.top_p[row], room);
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
    const int64_t token = draw_token(step, c, row, scratch + 2 * stride);
    step.sampled[row] = static_cast<int32_t>(token);
    step.logprob[row] = c.x[token] - largest - static_cast<float>(__builtin_log(static_cast<double>(total)));
  }
}
