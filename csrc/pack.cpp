// Packing: plain loops that visit each weight once and put it where kernels.h says. Nothing here is vectorised by
// hand: packing runs once a model, and its result is kept on disk.
#include "pack.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>

namespace hokku {
namespace {

constexpr float kInt8Max = 127.0f;
constexpr uint8_t kInt8Zero = 128;
constexpr float kInt4Max = 15.0f;

float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t ties_to_even = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>((bits + ties_to_even) >> 16);
}

float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = uint32_t{half & 0x7fffu};
  if (magnitude < 0x0400u) {  // zero and subnormals: multiples of 2^-24
    const float value = std::ldexp(static_cast<float>(magnitude), -24);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  return std::bit_cast<float>(((magnitude << 13) + (112u << 23)) | sign);
}

// Round to nearest, ties to even. The caller keeps |value| within fp16's finite range.
uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (magnitude < 0x1p-14f) {
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(magnitude, 24))));
  }
  const uint32_t rebased = (bits & 0x7fffffffu) - (112u << 23);
  return static_cast<uint16_t>(sign | ((rebased + 0x0fffu + ((rebased >> 13) & 1u)) >> 13));
}

// Where segment s of output n has its scale.
int64_t segment_index(PackedShape shape, int64_t n, int64_t s) {
  return (n / kLanes * shape.segments + s) * kLanes + n % kLanes;
}

// Where input k of output n lies: its byte in int8 codes, its element in bf16 codes.
int64_t int8_index(PackedShape shape, int64_t n, int64_t k) {
  return ((n / kLanes) * (shape.depth() / 4) + k / 4) * (kLanes * 4) + (n % kLanes) * 4 + k % 4;
}

int64_t bf16_index(PackedShape shape, int64_t n, int64_t k) {
  return ((n / kLanes) * (shape.depth() / 2) + k / 2) * (kLanes * 2) + (n % kLanes) * 2 + k % 2;
}

// Where group g of output n has its scale, and the byte that holds inputs `k` and `k + 16` of that group, k < 16.
int64_t group_index(PackedShape shape, int64_t n, int64_t g) {
  return ((n / kLanes) * shape.groups() + g) * kLanes + n % kLanes;
}

int64_t int4_index(PackedShape shape, int64_t n, int64_t g, int64_t k) {
  return (((n / kLanes) * shape.groups() + g) * 4 + k / 4) * (kLanes * 4) + (n % kLanes) * 4 + k % 4;
}

using GroupValues = std::array<float, kGroup>;
using GroupCodes = std::array<uint8_t, kGroup>;

template <class Codes>
void store_group(PackedShape shape, int64_t n, int64_t g, const Codes& nibbles, uint8_t* codes) {
  for (int64_t k = 0; k < kGroup / 2; ++k) {
    const auto low = static_cast<uint8_t>(nibbles[k]), high = static_cast<uint8_t>(nibbles[k + kGroup / 2]);
    codes[int4_index(shape, n, g, k)] = static_cast<uint8_t>(low | (high << 4));
  }
}

// A group of int4 weights as the kernels will see it: scale and minimum already rounded to fp16.
struct Int4Group {
  uint16_t scale = 0;
  uint16_t min = 0;
  GroupValues codes{};  // whole numbers 0..15
  float squared_error = 0.0f;
};

// Pairwise, which compilers turn into vectors, and which rounds less than one after the other.
float sum_of(GroupValues values) {
  for (size_t half = kGroup / 2; half > 0; half /= 2) {
    for (size_t k = 0; k < half; ++k) values[k] += values[k + half];
  }
  return values[0];
}

// Nearest whole number, ties to even, for |x| < 2^22.
float round_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

Int4Group encode_group(const GroupValues& values, float scale, float min) {
  Int4Group group;
  group.scale = float_to_half(scale);
  group.min = float_to_half(min);
  const float rounded_scale = half_to_float(group.scale);
  const float rounded_min = half_to_float(group.min);
  const float inverse = rounded_scale > 0.0f ? 1.0f / rounded_scale : 0.0f;
  GroupValues squares;
  for (size_t k = 0; k < kGroup; ++k) {
    const float steps = (values[k] - rounded_min) * inverse;
    const float code = round_even(steps < 0.0f ? 0.0f : steps > kInt4Max ? kInt4Max : steps);
    const float error = values[k] - rounded_min - rounded_scale * code;
    group.codes[k] = code;
    squares[k] = error * error;
  }
  group.squared_error = sum_of(squares);
  return group;
}

Int4Group encode_min_max(const GroupValues& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return encode_group(values, (*high - *low) / kInt4Max, *low);
}

// The scale and minimum that are best for codes already chosen: a straight-line fit over the codes of what lies above
// the present minimum.
Int4Group refit(const GroupValues& values, const Int4Group& start) {
  const float old_min = half_to_float(start.min);
  GroupValues above, squares, products;
  for (size_t k = 0; k < kGroup; ++k) {
    above[k] = values[k] - old_min;
    squares[k] = start.codes[k] * start.codes[k];
    products[k] = start.codes[k] * above[k];
  }
  const float sum_code = sum_of(start.codes), sum_above = sum_of(above);
  const float spread = kGroup * sum_of(squares) - sum_code * sum_code;
  if (spread <= 0) return start;  // all codes equal: nothing to fit
  const float scale = (kGroup * sum_of(products) - sum_code * sum_above) / spread;
  return encode_group(values, scale, old_min + (sum_above - scale * sum_code) / kGroup);
}

// Clipping the extremes a little often helps the other thirty values more than it costs the two: try a few ranges,
// let each settle by least squares, keep the best.
Int4Group encode_refined(const GroupValues& values) {
  constexpr std::array<float, 3> kRanges = {1.0f, 0.9f, 0.8f};
  constexpr int kFits = 2;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const float middle = 0.5f * (*low + *high);
  Int4Group best = encode_min_max(values);
  for (const float range : kRanges) {
    const float half_width = 0.5f * range * (*high - *low);
    Int4Group candidate = encode_group(values, 2.0f * half_width / kInt4Max, middle - half_width);
    for (int fit = 0; fit < kFits; ++fit) {
      candidate = refit(values, candidate);
      if (candidate.squared_error < best.squared_error) best = candidate;
    }
  }
  return best;
}

}  // namespace

int64_t PackedShape::code_bytes(WeightFormat format) const {
  const int64_t weights = blocks() * kLanes * depth();
  switch (format) {
    case WeightFormat::int8: return weights;
    case WeightFormat::int4: return weights / 2;
    case WeightFormat::bf16: return weights * 2;
  }
  return 0;
}

void pack_int8(const float* weights, PackedShape shape, uint8_t* codes, float* scale) {
  std::fill_n(codes, shape.code_bytes(WeightFormat::int8), kInt8Zero);
  std::fill_n(scale, shape.scale_count(), 0.0f);
  const int64_t length = shape.depth() / shape.segments;
  for (int64_t n = 0; n < shape.rows; ++n) {
    const float* row = weights + n * shape.cols;
    for (int64_t s = 0; s < shape.segments; ++s) {
      const int64_t begin = s * length, end = std::min(begin + length, shape.cols);
      float peak = 0.0f;
      for (int64_t k = begin; k < end; ++k) peak = std::max(peak, std::fabs(row[k]));
      const float step = peak / kInt8Max;
      if (step < FLT_MIN) continue;  // a segment of zeros (or too small to divide by) stays zero
      scale[segment_index(shape, n, s)] = step;
      for (int64_t k = begin; k < end; ++k) {
        const int code = static_cast<int>(std::nearbyint(row[k] / step));
        codes[int8_index(shape, n, k)] = static_cast<uint8_t>(code + kInt8Zero);
      }
    }
  }
}

void pack_int4(const float* weights, PackedShape shape, bool refine, uint8_t* codes, uint16_t* gscale, uint16_t* gmin) {
  std::fill_n(codes, shape.code_bytes(WeightFormat::int4), uint8_t{0});
  std::fill_n(gscale, shape.group_count(), uint16_t{0});
  std::fill_n(gmin, shape.group_count(), uint16_t{0});
  for (int64_t n = 0; n < shape.rows; ++n) {
    for (int64_t k = 0; k < shape.cols; k += kGroup) {
      GroupValues values{};  // inputs beyond cols are zero, and meet activations that are zero
      std::copy_n(weights + n * shape.cols + k, std::min<int64_t>(kGroup, shape.cols - k), values.begin());
      const Int4Group group = refine ? encode_refined(values) : encode_min_max(values);
      gscale[group_index(shape, n, k / kGroup)] = group.scale;
      gmin[group_index(shape, n, k / kGroup)] = group.min;
      store_group(shape, n, k / kGroup, group.codes, codes);
    }
  }
}

void pack_int4_codes(const uint8_t* nibbles, const float* scale, const float* min, PackedShape shape, uint8_t* codes,
                     uint16_t* gscale, uint16_t* gmin) {
  std::fill_n(codes, shape.code_bytes(WeightFormat::int4), uint8_t{0});
  std::fill_n(gscale, shape.group_count(), uint16_t{0});
  std::fill_n(gmin, shape.group_count(), uint16_t{0});
  const int64_t groups = shape.cols / kGroup;
  for (int64_t n = 0; n < shape.rows; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      GroupCodes group;
      std::copy_n(nibbles + n * shape.cols + g * kGroup, kGroup, group.begin());
      gscale[group_index(shape, n, g)] = float_to_half(scale[n * groups + g]);
      gmin[group_index(shape, n, g)] = float_to_half(min[n * groups + g]);
      store_group(shape, n, g, group, codes);
    }
  }
}

void pack_bf16(const float* weights, PackedShape shape, uint16_t* codes) {
  std::fill_n(codes, shape.code_bytes(WeightFormat::bf16) / 2, uint16_t{0});
  for (int64_t n = 0; n < shape.rows; ++n) {
    for (int64_t k = 0; k < shape.cols; ++k) {
      codes[bf16_index(shape, n, k)] = float_to_bf16(weights[n * shape.cols + k]);
    }
  }
}

void unpack(const Weight& weight, float* out) {
  const PackedShape shape{weight.rows, weight.cols, weight.segments};
  const int64_t length = weight.depth / weight.segments;
  for (int64_t n = 0; n < weight.rows; ++n) {
    for (int64_t k = 0; k < weight.cols; ++k) {
      float& value = out[n * weight.cols + k];
      switch (weight.format) {
        case WeightFormat::int8:
          value = static_cast<float>(weight.codes[int8_index(shape, n, k)] - kInt8Zero) *
                  weight.scale[segment_index(shape, n, k / length)];
          break;
        case WeightFormat::int4: {
          const int64_t g = k / kGroup, within = k % kGroup;
          const uint8_t byte = weight.codes[int4_index(shape, n, g, within % 16)];
          const auto nibble = static_cast<float>(within < 16 ? byte & 15 : byte >> 4);
          value = nibble * half_to_float(weight.gscale[group_index(shape, n, g)]) +
                  half_to_float(weight.gmin[group_index(shape, n, g)]);
          break;
        }
        case WeightFormat::bf16: {
          uint16_t bits;
          std::memcpy(&bits, weight.codes + 2 * bf16_index(shape, n, k), sizeof bits);
          value = bf16_to_float(bits);
          break;
        }
      }
    }
  }
}

}  // namespace hokku
