// Rows of a packed weight, decoded back to floats: the token embedding, whose table may also be the output layer's.
// A row is one lane of its block, so its inputs lie 64 bytes apart.

HOKKU_INLINE float half_value(uint16_t bits) {
  const uint16_t sixteen[kLanes] = {bits};
  float values[kLanes];
  store(values, load_f16(sixteen));
  return values[0];
}

inline void decode_int8(const Weight& w, int64_t row, float* out) {
  const int64_t block = row / kLanes, lane = row % kLanes;
  const uint8_t* codes = w.codes + block * w.depth * kLanes + lane * 4;
  const int64_t length = w.depth / w.segments;
  for (int64_t segment = 0; segment < w.segments; ++segment) {
    const int64_t begin = segment * length, end = begin + length < w.cols ? begin + length : w.cols;
    const float scale = w.scale[(block * w.segments + segment) * kLanes + lane];
    for (int64_t k = begin; k < end; ++k) out[k] = static_cast<float>(codes[k / 4 * 64 + k % 4] - 128) * scale;
  }
}

inline void decode_int4(const Weight& w, int64_t row, float* out) {
  const int64_t block = row / kLanes, lane = row % kLanes, groups = w.depth / kGroup;
  for (int64_t k = 0; k < w.cols; ++k) {
    const int64_t group = block * groups + k / kGroup, within = k % kGroup, half = within % 16;
    const uint8_t byte = w.codes[group * 256 + half / 4 * 64 + lane * 4 + half % 4];
    const int nibble = within < 16 ? byte & 15 : byte >> 4;
    const int64_t at = group * kLanes + lane;
    out[k] = static_cast<float>(nibble) * half_value(w.gscale[at]) + half_value(w.gmin[at]);
  }
}

inline void decode_bf16(const Weight& w, int64_t row, float* out) {
  const int64_t block = row / kLanes, lane = row % kLanes;
  const uint8_t* codes = w.codes + (block * w.depth * kLanes + lane * 2) * 2;
  for (int64_t k = 0; k < w.cols; ++k) {
    uint16_t bits;
    __builtin_memcpy(&bits, codes + k / 2 * 64 + k % 2 * 2, sizeof bits);
    out[k] = __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }
}

// Row `row` of the step's features, as it is.
inline void copy_feature(const Step& step, int64_t row, float* out) {
  const auto bytes = static_cast<size_t>(step.feature_cols) * sizeof(float);
  __builtin_memcpy(out, step.features + row * step.feature_cols, bytes);
}

inline void embed(const Weight& table, const Step& step, float* out, int64_t out_stride, int64_t row_begin,
                  int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    const int64_t token = step.tokens[r];
    float* row = out + r * out_stride;
    if (token < 0) {
      copy_feature(step, -1 - token, row);
      continue;
    }
    switch (table.format) {
      case WeightFormat::int8: decode_int8(table, token, row); break;
      case WeightFormat::int4: decode_int4(table, token, row); break;
      case WeightFormat::bf16: decode_bf16(table, token, row); break;
    }
  }
}
