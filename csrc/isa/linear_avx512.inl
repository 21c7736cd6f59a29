// The linears of the avx512 path.
#include "isa/linear_vnni.inl"

void linear_int8(const LinearTask& task) { vnni_linear_int8(task); }
void linear_int4(const LinearTask& task) { run_int4<Avx512Int4Tile>(task); }
void linear_bf16(const LinearTask& task) { run_linear<Bf16Body<FloatBf16Tile<6, 4>>>(task); }
