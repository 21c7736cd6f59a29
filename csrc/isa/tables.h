// The tables that the files of this folder define, each constant data; dispatch.cpp knows which CPU may use which.
#pragma once

#include "kernels.h"

namespace hokku {

extern const KernelTable portable_table;
#if defined(__x86_64__)
extern const KernelTable avx2_table;
extern const KernelTable avxvnni_table;
extern const KernelTable avx512_table;
extern const KernelTable avx512_bf16_table;
extern const KernelTable amx_table;
extern const KernelTable amx_emulated_table;
#elif defined(__aarch64__)
extern const KernelTable neon_table;
#endif

}  // namespace hokku
