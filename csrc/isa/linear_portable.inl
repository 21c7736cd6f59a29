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
  static constexpr int kBlocks = 1;

  struct Codes {
    uint8_t quads[kGroup / 4][kLanes][4];
  };

  static void unpack(const uint8_t* w, Codes& codes) {
    constexpr int kHalf = kGroup / 8;
    for (int i = 0; i < kHalf * kLanes * 4; ++i) {
      const int j = i / (kLanes * 4), n = i / 4 % kLanes;
      codes.quads[j][n][i % 4] = w[i] & 15;
      codes.quads[j + kHalf][n][i % 4] = static_cast<uint8_t>(w[i] >> 4);
    }
  }

  template <int R, int B>
  static void dots(const int8_t* a, int64_t a_stride, const Codes (&codes)[B], I16 (&dots)[R][B]) {
    for (int r = 0; r < R; ++r) {
      for (int b = 0; b < B; ++b) dots[r][b] = row_dots(a + r * a_stride, codes[b]);
    }
  }

 private:
  static I16 row_dots(const int8_t* a, const Codes& codes) {
    int32_t sums[kLanes] = {};
    for (int j = 0; j < kGroup / 4; ++j, a += 4) {
      for (int n = 0; n < kLanes; ++n) {
        const uint8_t* quad = codes.quads[j][n];
        sums[n] += a[0] * quad[0] + a[1] * quad[1] + a[2] * quad[2] + a[3] * quad[3];
      }
    }
    return load(sums);
  }
};

void linear_int8(const LinearTask& task) { run_linear<Int8Body<PortableInt8Tile>>(task); }
void linear_int4(const LinearTask& task) { run_int4<PortableInt4Tile>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<FloatBf16Tile<2, 2>>>(task); }
