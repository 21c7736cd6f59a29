// flags:
// The NEON path: every 64-bit Arm.
#include <arm_neon.h>

#include "isa/tables.h"
#include "kernels.h"

namespace hokku {
namespace {
#include "simd/neon.inl"
#include "simd/math.inl"

#include "body/embed.inl"
#include "body/encode.inl"
#include "body/rope.inl"
#include "body/attention.inl"
#include "body/sample.inl"
#include "body/peaks.inl"
#include "body/linear.inl"
#include "isa/linear_neon.inl"
#include "isa/attention_neon.inl"
}  // namespace

constinit const KernelTable neon_table = {
    "neon", linear_int8, linear_int4, linear_bf16, embed, rms_norm, layer_norm, encode, rope_and_store,
    attention, sample, read_all, multiply_add,
};

}  // namespace hokku
