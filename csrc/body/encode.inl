// Activations turned into operands of the linears: as they are (`encode`) or normalised first (`rms_norm`, `layer_norm`).
//
// Both encoders read a row through a small function object `values(k, n)` that gives the n <= 16 values from column k
// on, so that normalising costs no buffer of its own: the few multiplications are done again in each pass.

// Below this a segment or group is zero: its scale and the scale's inverse would leave the range of floats.
constexpr float kSmallestAmax = 0x1p-100f;

HOKKU_INLINE int64_t lanes_from(int64_t k, int64_t cols) { return cols - k < kLanes ? cols - k : kLanes; }

template <class Values>
HOKKU_INLINE float largest_magnitude(const Values& values, int64_t begin, int64_t end) {
  V16 largest = set1(0.0f);
  for (int64_t k = begin; k < end; k += kLanes) largest = max(abs(values(k, lanes_from(k, end))), largest);
  return reduce_max(largest);
}

// Codes of columns [begin, end), zeros up to `padded_end`; returns their sum.
template <class Values>
HOKKU_INLINE int32_t encode_codes(const Values& values, float inverse_scale, int64_t begin, int64_t end,
                                  int64_t padded_end, int8_t* codes) {
  const V16 inverse = set1(inverse_scale);
  I16 sum = set1(int32_t{0});
  for (int64_t k = begin; k < padded_end; k += kLanes) {
    const int64_t lanes = lanes_from(k, end);
    const V16 scaled = lanes > 0 ? mul(values(k, lanes), inverse) : set1(0.0f);
    const I16 code = round_to_int(min(max(scaled, set1(-127.0f)), set1(127.0f)));
    store_s8(codes + k, code);
    sum = add(sum, code);
  }
  return reduce_add(sum);
}

template <class Values>
HOKKU_INLINE void encode_int8(const Values& values, Operand& out, int64_t row) {
  const int64_t runs = out.groups(), run = out.depth / runs;
  int8_t* codes = reinterpret_cast<int8_t*>(out.data) + row * out.depth;
  for (int64_t g = 0; g < runs; ++g) {
    const int64_t begin = g * run;
    const int64_t end = begin + run < out.cols ? begin + run : out.cols;
    const float amax = largest_magnitude(values, begin, end);
    const bool zero = amax < kSmallestAmax;
    const int64_t at = row * runs + g;
    out.scale[at] = zero ? 0.0f : amax / 127.0f;
    out.sum[at] = encode_codes(values, zero ? 0.0f : 127.0f / amax, begin, end, begin + run, codes);
  }
}

template <class Values>
HOKKU_INLINE void encode_bf16(const Values& values, Operand& out, int64_t row) {
  uint16_t* data = reinterpret_cast<uint16_t*>(out.data) + row * out.depth;
  for (int64_t k = 0; k < out.depth; k += kLanes) {
    const int64_t lanes = lanes_from(k, out.cols);
    store_bf16(data + k, lanes > 0 ? values(k, lanes) : set1(0.0f));
  }
}

template <class Values>
HOKKU_INLINE void encode_values(const Values& values, Operand& out, int64_t row) {
  if (out.format == OperandFormat::bf16) {
    encode_bf16(values, out, row);
  } else {
    encode_int8(values, out, row);
  }
}

// Four sums side by side, so that a row is not one long chain of additions; joined pairwise. add_to(v, n, sum) is the sum
// with 16 values added, of which the first n are the row's and the others 0.
template <class Add>
HOKKU_INLINE float sum_row(const float* x, int64_t cols, const Add& add_to) {
  V16 sum[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
  int64_t k = 0;
  for (; k + 4 * kLanes <= cols; k += 4 * kLanes) {
    for (int i = 0; i < 4; ++i) sum[i] = add_to(load(x + k + i * kLanes), kLanes, sum[i]);
  }
  for (; k < cols; k += kLanes) sum[0] = add_to(load_n(x + k, lanes_from(k, cols)), lanes_from(k, cols), sum[0]);
  return reduce_add(add(add(sum[0], sum[1]), add(sum[2], sum[3])));
}

// 1 / sqrt(mean(x^2) + eps)
HOKKU_INLINE float inverse_rms(const float* x, int64_t cols, float eps) {
  const float squares = sum_row(x, cols, [](V16 v, int64_t, V16 sum) { return fma(v, v, sum); });
  return 1.0f / __builtin_sqrtf(squares / static_cast<float>(cols) + eps);
}

// How a layer norm moves a run of columns: shifted, then scaled.
struct RunNorm {
  float mean, inverse;
};

HOKKU_INLINE RunNorm deviation_of_run(const float* x, int64_t cols, float eps) {
  const float total = sum_row(x, cols, [](V16 v, int64_t, V16 sum) { return add(v, sum); });
  const float mean = total / static_cast<float>(cols);
  const float squares = sum_row(x, cols, [mean](V16 v, int64_t lanes, V16 sum) {
    const V16 away = select(first(lanes), sub(v, set1(mean)), set1(0.0f));
    return fma(away, away, sum);
  });
  return {mean, 1.0f / __builtin_sqrtf(squares / static_cast<float>(cols) + eps)};
}

// Runs of a row at most: program.cpp allows no more.
constexpr int64_t kMostNormRuns = 64;

// The run that column k is in.
HOKKU_INLINE int64_t run_of(int64_t k, int64_t run, int64_t cols) { return run == cols ? 0 : k / run; }

inline void rms_norm(const NormTask& t, Operand& out, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* row = t.x + r * t.x_stride;
    float inverse[kMostNormRuns];
    for (int64_t i = 0; i < out.cols / t.run; ++i) inverse[i] = inverse_rms(row + i * t.run, t.run, t.eps);
    const auto normed = [&](int64_t k, int64_t n) {
      const int64_t i = run_of(k, t.run, out.cols);
      return mul(mul(load_n(row + k, n), set1(inverse[i])), load_n(t.gain + k - i * t.run, n));
    };
    encode_values(normed, out, r);
  }
}

inline void layer_norm(const NormTask& t, Operand& out, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* row = t.x + r * t.x_stride;
    RunNorm norm[kMostNormRuns];
    for (int64_t i = 0; i < out.cols / t.run; ++i) norm[i] = deviation_of_run(row + i * t.run, t.run, t.eps);
    const auto normed = [&](int64_t k, int64_t n) {
      const int64_t i = run_of(k, t.run, out.cols), at = k - i * t.run;
      const V16 unit = mul(sub(load_n(row + k, n), set1(norm[i].mean)), set1(norm[i].inverse));
      return fma(unit, load_n(t.gain + at, n), load_n(t.bias + at, n));
    };
    encode_values(normed, out, r);
  }
}

inline void encode(const float* x, int64_t x_stride, Operand& out, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* row = x + r * x_stride;
    encode_values([&](int64_t k, int64_t n) { return load_n(row + k, n); }, out, r);
  }
}
