// The 16-lane vectors in plain C++: the definition that every other file of this folder must match bit for bit.
//
// Included inside an unnamed namespace by csrc/isa/<isa>.cpp. V16 holds 16 floats, I16 16 int32, M16 16 truths.
// `fma` rounds once; every other operation rounds by itself. `min` and `max` return their second operand when the
// comparison fails, so a NaN in the first operand is dropped: x86 does so, and everybody else follows.

// Rows and vectors of attention's register tile. Any would do.
constexpr int kTileRows = 4;
constexpr int kTileVectors = 1;

struct V16 {
  float lane[kLanes];
};
struct I16 {
  int32_t lane[kLanes];
};
struct M16 {
  bool lane[kLanes];
};

template <class Result, class Function>
HOKKU_INLINE Result each_lane(Function function) {
  Result r;
  for (int i = 0; i < kLanes; ++i) r.lane[i] = function(i);
  return r;
}

HOKKU_INLINE V16 set1(float x) {
  return each_lane<V16>([&](int) { return x; });
}
HOKKU_INLINE I16 set1(int32_t x) {
  return each_lane<I16>([&](int) { return x; });
}
HOKKU_INLINE V16 load(const float* p) {
  return each_lane<V16>([&](int i) { return p[i]; });
}
HOKKU_INLINE I16 load(const int32_t* p) {
  return each_lane<I16>([&](int i) { return p[i]; });
}
HOKKU_INLINE void store(float* p, V16 a) { __builtin_memcpy(p, a.lane, sizeof a.lane); }
HOKKU_INLINE void store(int32_t* p, I16 a) { __builtin_memcpy(p, a.lane, sizeof a.lane); }

// The first n lanes (0 <= n <= 16); the others are zero, or left alone in memory.
HOKKU_INLINE V16 load_n(const float* p, int64_t n) {
  return each_lane<V16>([&](int i) { return i < n ? p[i] : 0.0f; });
}
HOKKU_INLINE void store_n(float* p, V16 a, int64_t n) {
  for (int i = 0; i < kLanes; ++i) {
    if (i < n) p[i] = a.lane[i];
  }
}

HOKKU_INLINE V16 add(V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return a.lane[i] + b.lane[i]; });
}
HOKKU_INLINE V16 sub(V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return a.lane[i] - b.lane[i]; });
}
HOKKU_INLINE V16 mul(V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return a.lane[i] * b.lane[i]; });
}
HOKKU_INLINE V16 div(V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return a.lane[i] / b.lane[i]; });
}
HOKKU_INLINE V16 sqrt(V16 a) {
  return each_lane<V16>([&](int i) { return __builtin_sqrtf(a.lane[i]); });
}
// a * b + c, rounded once.
HOKKU_INLINE V16 fma(V16 a, V16 b, V16 c) {
  return each_lane<V16>([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
HOKKU_INLINE V16 min(V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
HOKKU_INLINE V16 max(V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
HOKKU_INLINE V16 abs(V16 a) {
  return each_lane<V16>([&](int i) { return __builtin_fabsf(a.lane[i]); });
}

HOKKU_INLINE I16 add(I16 a, I16 b) {
  return each_lane<I16>([&](int i) { return a.lane[i] + b.lane[i]; });
}
HOKKU_INLINE I16 sub(I16 a, I16 b) {
  return each_lane<I16>([&](int i) { return a.lane[i] - b.lane[i]; });
}
template <int bits>
HOKKU_INLINE I16 shift_left(I16 a) {
  return each_lane<I16>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) << bits); });
}
HOKKU_INLINE I16 as_int(V16 a) { return __builtin_bit_cast(I16, a); }
HOKKU_INLINE V16 as_float(I16 a) { return __builtin_bit_cast(V16, a); }
HOKKU_INLINE V16 to_float(I16 a) {
  return each_lane<V16>([&](int i) { return static_cast<float>(a.lane[i]); });
}
// Nearest integer, ties to even; |a| < 2^22. The sum with 1.5 * 2^23 leaves the integer in the low bits.
HOKKU_INLINE I16 round_to_int(V16 a) {
  return each_lane<I16>([&](int i) { return __builtin_bit_cast(int32_t, a.lane[i] + 12582912.0f) - 0x4B400000; });
}

HOKKU_INLINE M16 less(V16 a, V16 b) {
  return each_lane<M16>([&](int i) { return a.lane[i] < b.lane[i]; });
}
HOKKU_INLINE M16 equal(V16 a, V16 b) {
  return each_lane<M16>([&](int i) { return a.lane[i] == b.lane[i]; });
}
// Lanes below n; any n.
HOKKU_INLINE M16 first(int64_t n) {
  return each_lane<M16>([&](int i) { return i < n; });
}
HOKKU_INLINE M16 from_bits(uint32_t bits) {
  return each_lane<M16>([&](int i) { return ((bits >> i) & 1u) != 0; });
}
HOKKU_INLINE uint32_t to_bits(M16 m) {
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(m.lane[i]) << i;
  return bits;
}
// m ? a : b
HOKKU_INLINE V16 select(M16 m, V16 a, V16 b) {
  return each_lane<V16>([&](int i) { return m.lane[i] ? a.lane[i] : b.lane[i]; });
}

// Lane i meets lane i+8, then i+4, i+2, i+1: the order of every horizontal sum in this project.
HOKKU_INLINE float reduce_add(V16 a) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.lane[i] = a.lane[i] + a.lane[i + half];
  }
  return a.lane[0];
}
HOKKU_INLINE float reduce_max(V16 a) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.lane[i] = a.lane[i] > a.lane[i + half] ? a.lane[i] : a.lane[i + half];
  }
  return a.lane[0];
}
HOKKU_INLINE int32_t reduce_add(I16 a) {
  int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += a.lane[i];
  return sum;
}

HOKKU_INLINE V16 load_bf16(const uint16_t* p) {
  return each_lane<V16>([&](int i) { return __builtin_bit_cast(float, static_cast<uint32_t>(p[i]) << 16); });
}
// 32 values: those at even places and those at odd places.
HOKKU_INLINE void load_bf16_pairs(const uint16_t* p, V16& even, V16& odd) {
  even = each_lane<V16>([&](int i) { return __builtin_bit_cast(float, static_cast<uint32_t>(p[2 * i]) << 16); });
  odd = each_lane<V16>([&](int i) { return __builtin_bit_cast(float, static_cast<uint32_t>(p[2 * i + 1]) << 16); });
}
// Round to nearest, ties to even; a NaN stays one.
HOKKU_INLINE uint16_t bf16_bits(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if (x != x) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
HOKKU_INLINE void store_bf16(uint16_t* p, V16 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = bf16_bits(a.lane[i]);
}
// Half precision to float, exactly: shift the fields into place, then let a multiplication mend the exponent's bias.
HOKKU_INLINE float f16_value(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(h & 0x7FFFu) << 13;
  const float magnitude = rest >= 0x0F800000u ? __builtin_bit_cast(float, rest | 0x70000000u)
                                              : __builtin_bit_cast(float, rest) * 0x1p112f;
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, magnitude) | sign);
}
HOKKU_INLINE V16 load_f16(const uint16_t* p) {
  return each_lane<V16>([&](int i) { return f16_value(p[i]); });
}
// The low byte of each lane; the caller has made sure that it is the whole value.
HOKKU_INLINE void store_s8(int8_t* p, I16 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(a.lane[i]);
}
