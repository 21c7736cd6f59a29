// flags: -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -mfma -mf16c -mamx-tile -mamx-int8 -mamx-bf16
// The AMX path: AVX-512 with the linears on tiles, Intel servers since Sapphire Rapids. Compiled a second time with
// HOKKU_EMULATED_TILES, where plain code stands in for the tile instructions so that any AVX-512 machine can test it.
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
#include "isa/linear_amx.inl"
#include "isa/attention_amx.inl"
}  // namespace

#ifdef HOKKU_EMULATED_TILES
constinit const KernelTable amx_emulated_table = {
    "amx_emulated", linear_int8, linear_int4, linear_bf16, embed, rms_norm, layer_norm, encode, rope_and_store,
    attention, sample, read_all, multiply_add,
};
#else
constinit const KernelTable amx_table = {
    "amx", linear_int8, linear_int4, linear_bf16, embed, rms_norm, layer_norm, encode, rope_and_store,
    attention, sample, read_all, multiply_add,
};
#endif

}  // namespace hokku
