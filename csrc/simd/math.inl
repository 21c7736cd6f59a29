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
