// flags: -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c
// The AVX-512 path with VNNI: Intel servers since Cascade Lake, AMD since Zen 4.
#include <immintrin.h>

#include "isa/tables.h"
#include "kernels.h"

namespace hokku {
namespace {
#include "simd/avx512.inl"
#include "simd/math.inl"

#include "body/embed.inl"
#include "body/encode.inl"
#include "body/rope.inl"
#include "body/attention.inl"
#include "body/sample.inl"
#include "body/peaks.inl"
#include "body/linear.inl"
#include "isa/linear_avx512.inl"
#include "isa/attention_avx512.inl"
}  // namespace

constinit const KernelTable avx512_table = {
    "avx512", linear_int8, linear_int4, linear_bf16, embed, rms_norm, layer_norm, encode, rope_and_store,
    attention, sample, read_all, multiply_add,
};

}  // namespace hokku
