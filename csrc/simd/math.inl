// Functions of whole vectors, written once on top of the 16-lane type: every path computes them with the same
// operations in the same order.

// e^x within 1 unit in the last place for -87.33 <= x <= 88; 0 below, the value at 88 above, and exactly 1 at 0.
// x = n ln 2 + r with |r| <= ln 2 / 2 (Cody & Waite 1980, two-part ln 2), then the Taylor polynomial of e^r, whose
// first term left out, r^8/8!, stays below 2^-27; 2^n is added to the exponent's bits.
HOKKU_INLINE V16 exp(V16 x) {
  const V16 lowest = set1(-87.33f);
  const V16 inside = min(max(x, lowest), set1(88.0f));
  const I16 n = round_to_int(mul(inside, set1(1.44269504f)));
  const V16 whole = to_float(n);
  const V16 r = fma(whole, set1(-1.42860677e-6f), fma(whole, set1(-0.693145752f), inside));
  V16 p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  const V16 scaled = as_float(add(as_int(p), shift_left<23>(n)));
  return select(less(x, lowest), set1(0.0f), scaled);
}

// x / (1 + e^-x), the gate of SwiGLU (Shazeer 2020).
HOKKU_INLINE V16 silu(V16 x) { return div(x, add(set1(1.0f), exp(sub(set1(0.0f), x)))); }

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the tanh form of GELU (Hendrycks & Gimpel 2016), as the x / (1 + e^-2u)
// that it is the same as.
HOKKU_INLINE V16 gelu(V16 x) {
  const V16 slope = fma(mul(x, x), set1(-0.0713548163f), set1(-1.59576912f));
  return div(x, add(set1(1.0f), exp(mul(x, slope))));
}

// 2^x within 2.9e-6 of itself for -125 <= x <= 127, the value at -125 below, and exactly 1 at 0: for weights that are
// rounded to seven bits. x = n + r with |r| <= 1/2; the polynomial of 2^r has the least largest relative error of
// those of degree four that are 1 at 0.
HOKKU_INLINE V16 coarse_exp2(V16 x) {
  const V16 inside = max(x, set1(-125.0f));
  const I16 n = round_to_int(inside);
  const V16 r = sub(inside, to_float(n));
  V16 p = set1(0x1.3a02cep-7f);
  p = fma(p, r, set1(0x1.c9fc46p-5f));
  p = fma(p, r, set1(0x1.ec0378p-3f));
  p = fma(p, r, set1(0x1.62e12cp-1f));
  p = fma(p, r, set1(1.0f));
  return as_float(add(as_int(p), shift_left<23>(n)));
}

// Logarithm to base 2 of one positive normal number, within 2e-6: the exponent, and of the mantissa m in [1, 2) the
// series log m = 2 (z + z^3/3 + z^5/5 + ...) with z = (m - 1) / (m + 1), whose first term left out is below 1.5e-6.
HOKKU_INLINE float log2(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  const float m = __builtin_bit_cast(float, (bits & 0x007FFFFFu) | 0x3F800000u);
  const float z = (m - 1.0f) / (m + 1.0f), z2 = z * z;
  float series = 1.0f / 9.0f;
  series = __builtin_fmaf(series, z2, 1.0f / 7.0f);
  series = __builtin_fmaf(series, z2, 1.0f / 5.0f);
  series = __builtin_fmaf(series, z2, 1.0f / 3.0f);
  series = __builtin_fmaf(series, z2, 1.0f);
  const float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  return __builtin_fmaf(2.88539008f * z, series, exponent);
}
