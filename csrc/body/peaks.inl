// What the machine can do at most, for people who want to know how near a kernel comes.

// The sum of count floats, a multiple of 256: nothing but reading, on sixteen streams of additions.
inline float read_all(const float* x, int64_t count) {
  V16 sum[16];
  for (int i = 0; i < 16; ++i) sum[i] = set1(0.0f);
  for (int64_t k = 0; k < count; k += 16 * kLanes) {
    for (int i = 0; i < 16; ++i) sum[i] = add(sum[i], load(x + k + i * kLanes));
  }
  for (int i = 1; i < 16; ++i) sum[0] = add(sum[0], sum[i]);
  return reduce_add(sum[0]);
}

// `rounds` times kFmaChains multiply-adds that do not wait for each other.
inline float multiply_add(int64_t rounds) {
  V16 sum[kFmaChains];
  for (int i = 0; i < kFmaChains; ++i) sum[i] = set1(static_cast<float>(i));
  const V16 factor = set1(0.999f), term = set1(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < kFmaChains; ++i) sum[i] = fma(sum[i], factor, term);
  }
  for (int i = 1; i < kFmaChains; ++i) sum[0] = add(sum[0], sum[i]);
  return reduce_add(sum[0]);
}
