// flags: -mavx2 -mfma -mf16c -mavxvnni
// The AVX2 path with 256-bit VNNI, which linear_avx2.inl takes up by itself: Intel clients since Alder Lake, AMD since
// Zen 5.
#include <immintrin.h>

#include "isa/tables.h"
#include "kernels.h"

namespace hokku {
namespace {
#include "simd/avx2.inl"
#include "simd/math.inl"

#include "body/embed.inl"
#include "body/encode.inl"
#include "body/rope.inl"
#include "body/attention.inl"
#include "body/sample.inl"
#include "body/peaks.inl"
#include "body/linear.inl"
#include "isa/linear_avx2.inl"
#include "isa/attention_avx2.inl"
}  // namespace

constinit const KernelTable avxvnni_table = {
    "avxvnni", linear_int8, linear_int4, linear_bf16, embed, rms_norm, layer_norm, encode, rope_and_store,
    attention, sample, read_all, multiply_add,
};

}  // namespace hokku
