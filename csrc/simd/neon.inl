// The 16-lane vectors on NEON: four registers each. portable.inl says what every function means.

// Rows and vectors of attention's register tile. 20 accumulators of 32 registers, 8 for what they are multiplied with, 1 broadcast.
constexpr int kTileRows = 5;
constexpr int kTileVectors = 1;

struct V16 {
  float32x4_t q[4];
};
struct I16 {
  int32x4_t q[4];
};
// All bits of a lane set, or none.
struct M16 {
  uint32x4_t q[4];
};

template <class Result, class Function>
HOKKU_INLINE Result each_quarter(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

HOKKU_INLINE V16 set1(float x) {
  return each_quarter<V16>([&](int) { return vdupq_n_f32(x); });
}
HOKKU_INLINE I16 set1(int32_t x) {
  return each_quarter<I16>([&](int) { return vdupq_n_s32(x); });
}
HOKKU_INLINE V16 load(const float* p) {
  return each_quarter<V16>([&](int i) { return vld1q_f32(p + 4 * i); });
}
HOKKU_INLINE I16 load(const int32_t* p) {
  return each_quarter<I16>([&](int i) { return vld1q_s32(p + 4 * i); });
}
HOKKU_INLINE void store(float* p, V16 a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.q[i]);
}
HOKKU_INLINE void store(int32_t* p, I16 a) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, a.q[i]);
}
HOKKU_INLINE V16 load_n(const float* p, int64_t n) {
  float lanes[kLanes] = {};
  for (int i = 0; i < kLanes; ++i) {
    if (i < n) lanes[i] = p[i];
  }
  return load(lanes);
}
HOKKU_INLINE void store_n(float* p, V16 a, int64_t n) {
  float lanes[kLanes];
  store(lanes, a);
  for (int i = 0; i < kLanes; ++i) {
    if (i < n) p[i] = lanes[i];
  }
}

HOKKU_INLINE V16 add(V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return vaddq_f32(a.q[i], b.q[i]); });
}
HOKKU_INLINE V16 sub(V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return vsubq_f32(a.q[i], b.q[i]); });
}
HOKKU_INLINE V16 mul(V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return vmulq_f32(a.q[i], b.q[i]); });
}
HOKKU_INLINE V16 div(V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return vdivq_f32(a.q[i], b.q[i]); });
}
HOKKU_INLINE V16 sqrt(V16 a) {
  return each_quarter<V16>([&](int i) { return vsqrtq_f32(a.q[i]); });
}
HOKKU_INLINE V16 fma(V16 a, V16 b, V16 c) {
  return each_quarter<V16>([&](int i) { return vfmaq_f32(c.q[i], a.q[i], b.q[i]); });
}
// Not vminq and vmaxq, which keep a NaN.
HOKKU_INLINE float32x4_t lesser(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
HOKKU_INLINE float32x4_t greater(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
HOKKU_INLINE V16 min(V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return lesser(a.q[i], b.q[i]); });
}
HOKKU_INLINE V16 max(V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return greater(a.q[i], b.q[i]); });
}
HOKKU_INLINE V16 abs(V16 a) {
  return each_quarter<V16>([&](int i) { return vabsq_f32(a.q[i]); });
}

HOKKU_INLINE I16 add(I16 a, I16 b) {
  return each_quarter<I16>([&](int i) { return vaddq_s32(a.q[i], b.q[i]); });
}
HOKKU_INLINE I16 sub(I16 a, I16 b) {
  return each_quarter<I16>([&](int i) { return vsubq_s32(a.q[i], b.q[i]); });
}
template <int bits>
HOKKU_INLINE I16 shift_left(I16 a) {
  return each_quarter<I16>([&](int i) { return vshlq_n_s32(a.q[i], bits); });
}
HOKKU_INLINE I16 as_int(V16 a) {
  return each_quarter<I16>([&](int i) { return vreinterpretq_s32_f32(a.q[i]); });
}
HOKKU_INLINE V16 as_float(I16 a) {
  return each_quarter<V16>([&](int i) { return vreinterpretq_f32_s32(a.q[i]); });
}
HOKKU_INLINE V16 to_float(I16 a) {
  return each_quarter<V16>([&](int i) { return vcvtq_f32_s32(a.q[i]); });
}
HOKKU_INLINE I16 round_to_int(V16 a) {
  return each_quarter<I16>([&](int i) { return vcvtnq_s32_f32(a.q[i]); });
}

HOKKU_INLINE M16 less(V16 a, V16 b) {
  return each_quarter<M16>([&](int i) { return vcltq_f32(a.q[i], b.q[i]); });
}
HOKKU_INLINE M16 equal(V16 a, V16 b) {
  return each_quarter<M16>([&](int i) { return vceqq_f32(a.q[i], b.q[i]); });
}
HOKKU_INLINE M16 first(int64_t n) {
  const int32_t count = static_cast<int32_t>(n < 0 ? 0 : n > kLanes ? kLanes : n);
  const int32_t lanes[4] = {0, 1, 2, 3};
  return each_quarter<M16>([&](int i) { return vcltq_s32(vld1q_s32(lanes), vdupq_n_s32(count - 4 * i)); });
}
HOKKU_INLINE M16 from_bits(uint32_t bits) {
  const uint32_t lanes[4] = {1, 2, 4, 8};
  return each_quarter<M16>([&](int i) { return vtstq_u32(vdupq_n_u32(bits >> (4 * i)), vld1q_u32(lanes)); });
}
HOKKU_INLINE uint32_t to_bits(M16 m) {
  const uint32_t lanes[4] = {1, 2, 4, 8};
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= vaddvq_u32(vandq_u32(m.q[i], vld1q_u32(lanes))) << (4 * i);
  return bits;
}
HOKKU_INLINE V16 select(M16 m, V16 a, V16 b) {
  return each_quarter<V16>([&](int i) { return vbslq_f32(m.q[i], a.q[i], b.q[i]); });
}

HOKKU_INLINE float reduce_add(V16 a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
HOKKU_INLINE float reduce_max(V16 a) {
  const float32x4_t four = greater(greater(a.q[0], a.q[2]), greater(a.q[1], a.q[3]));
  const float32x4_t two = greater(four, vextq_f32(four, four, 2));
  const float first_lane = vgetq_lane_f32(two, 0), second_lane = vgetq_lane_f32(two, 1);
  return first_lane > second_lane ? first_lane : second_lane;
}
HOKKU_INLINE int32_t reduce_add(I16 a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.q[0], a.q[1]), vaddq_s32(a.q[2], a.q[3])));
}

HOKKU_INLINE V16 load_bf16(const uint16_t* p) {
  return each_quarter<V16>([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
}
HOKKU_INLINE void load_bf16_pairs(const uint16_t* p, V16& even, V16& odd) {
  for (int i = 0; i < 4; ++i) {
    const uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(p + 8 * i));
    even.q[i] = vreinterpretq_f32_u32(vshlq_n_u32(both, 16));
    odd.q[i] = vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xFFFF0000u)));
  }
}
HOKKU_INLINE void store_bf16(uint16_t* p, V16 a) {
  for (int i = 0; i < 4; ++i) {
    const uint32x4_t bits = vreinterpretq_u32_f32(a.q[i]);
    const uint32x4_t high = vshrq_n_u32(bits, 16);
    const uint32x4_t bias = vaddq_u32(vandq_u32(high, vdupq_n_u32(1)), vdupq_n_u32(0x7FFF));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, bias), 16);
    const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    const uint32x4_t number = vceqq_f32(a.q[i], a.q[i]);
    vst1_u16(p + 4 * i, vmovn_u32(vbslq_u32(number, rounded, quiet)));
  }
}
HOKKU_INLINE V16 load_f16(const uint16_t* p) {
  return each_quarter<V16>([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
HOKKU_INLINE void store_s8(int8_t* p, I16 a) {
  const int16x8_t low = vcombine_s16(vmovn_s32(a.q[0]), vmovn_s32(a.q[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(a.q[2]), vmovn_s32(a.q[3]));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
