// Writes weight matrices into the layouts of kernels.h, once, at load. Sources are row-major [rows][cols] (rows =
// outputs); destinations are the caller's 64-byte-aligned buffers, every byte of which is written, padding included.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace hokku {

// The sizes of a packed weight [rows][cols]: what the caller allocates.
struct PackedShape {
  int64_t rows;
  int64_t cols;
  int64_t segments = 1;  // of int8
  int64_t blocks() const { return (rows + kLanes - 1) / kLanes; }
  int64_t depth() const { return (cols + kDepthPad - 1) / kDepthPad * kDepthPad; }
  int64_t groups() const { return depth() / kGroup; }
  bool has_whole_segments() const { return segments > 0 && depth() % (segments * kDepthPad) == 0; }
  int64_t code_bytes(WeightFormat format) const;
  int64_t scale_count() const { return segments * blocks() * kLanes; }  // int8: floats
  int64_t group_count() const { return blocks() * groups() * kLanes; }  // int4: halves, for scales and for minima
};

// Symmetric, one scale an output and segment: scale = max|w| / 127, code = round(w / scale) + 128.
void pack_int8(const float* weights, PackedShape shape, uint8_t* codes, float* scale);

// Asymmetric, one scale and minimum a group of 32 inputs; inputs beyond cols count as zero.
// `refine` fits scale and minimum to the codes by least squares and keeps what lowers the group's squared error.
void pack_int4(const float* weights, PackedShape shape, bool refine, uint8_t* codes, uint16_t* gscale, uint16_t* gmin);

// The same layout from a quantisation that already exists: nibbles [rows][cols] in 0..15, scale and min
// [rows][cols/32], cols a multiple of 32. Codes are kept as they are; scale and min are rounded to fp16.
void pack_int4_codes(const uint8_t* nibbles, const float* scale, const float* min, PackedShape shape, uint8_t* codes,
                     uint16_t* gscale, uint16_t* gmin);

// Rounded to the nearest bf16, ties to even.
void pack_bf16(const float* weights, PackedShape shape, uint16_t* codes);

// The value every code stands for, [rows][cols].
void unpack(const Weight& weight, float* out);

}  // namespace hokku
