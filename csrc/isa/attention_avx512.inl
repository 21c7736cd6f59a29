// Attention of the paths with AVX-512 VNNI and no tiles.
#include "isa/attention_vnni.inl"

void attention(const AttentionTask& task, int64_t sequence, int64_t row_begin, int64_t row_end, int64_t head_begin,
               int64_t head_end) {
  run_attention<VnniAttention>(task, sequence, row_begin, row_end, head_begin, head_end);
}
