// The linears in plain C++: small enough tiles for any compiler to keep in registers.

struct PortableInt8Tile {
  static constexpr int kRows = 4;
  static constexpr int kBlocks = 2;
  static constexpr int32_t kCodeZero = 128;

  template <int R, int B>
  static void dots(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride, int64_t depth,
                   Ahead ahead, int32_t* dots) {
    for (int i = 0; i < R * B * kLanes; ++i) dots[i] = 0;
    for (int b = 0; b < B; ++b) {
      Ahead block_ahead = {ahead.codes + b * w_stride, ahead.step};
      for (int64_t k = 0; k < depth; k += 4) {
        block_ahead.fetch<1>(0);
        const uint8_t* codes = w + b * w_stride + k * kLanes;
        for (int r = 0; r < R; ++r) {
          const int8_t* quad = a + r * a_stride + k;
          int32_t* sums = dots + (r * B + b) * kLanes;
          for (int n = 0; n < kLanes; ++n) {
            sums[n] += quad[0] * codes[4 * n] + quad[1] * codes[4 * n + 1] + quad[2] * codes[4 * n + 2] +
                       quad[3] * codes[4 * n + 3];
          }
        }
      }
    }
  }
};

struct PortableInt4Tile {
  static constexpr int kRows = 4;
  static constexpr int kBlocks = 2;

  template <int R, int B>
  static void group(const int8_t* a, int64_t a_stride, const uint8_t* w, int64_t w_stride, Ahead& ahead,
                    I16 (&dots)[R][B]) {
    for (int j = 0; j < 4; ++j) ahead.fetch<B>(w_stride);
    for (int r = 0; r < R; ++r) {
      for (int b = 0; b < B; ++b) dots[r][b] = group_dots(a + r * a_stride, w + b * w_stride);
    }
  }

  static I16 group_dots(const int8_t* a, const uint8_t* w) {
    int32_t sums[kLanes] = {};
    for (int k = 0; k < kGroup / 2; ++k) {
      const uint8_t* codes = w + k / 4 * (4 * kLanes) + k % 4;
      for (int n = 0; n < kLanes; ++n) {
        sums[n] += a[k] * (codes[4 * n] & 15) + a[k + kGroup / 2] * (codes[4 * n] >> 4);
      }
    }
    return load(sums);
  }
};

void linear_int8(const LinearTask& task) { run_linear<Int8Body<PortableInt8Tile>>(task); }
void linear_int4(const LinearTask& task) { run_linear<Int4Body<PortableInt4Tile>>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<FloatBf16Tile<2, 2>>>(task); }
