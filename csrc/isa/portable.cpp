// flags:
// The portable path: plain C++, the definition of every bit that the faster paths compute.
#include <cstdint>

#include "isa/tables.h"
#include "kernels.h"

namespace hokku {
namespace {
#include "simd/portable.inl"
#include "simd/math.inl"

#include "body/embed.inl"
#include "body/encode.inl"
#include "body/rope.inl"
#include "body/attention.inl"
#include "body/sample.inl"
#include "body/peaks.inl"
#include "body/linear.inl"
#include "isa/linear_portable.inl"
#include "isa/attention_portable.inl"
}  // namespace

constinit const KernelTable portable_table = {
    "portable", linear_int8, linear_int4, linear_bf16, embed, rms_norm, layer_norm, encode, rope_and_store,
    attention, sample, read_all, multiply_add,
};

}  // namespace hokku
