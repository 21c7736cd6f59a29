// Attention of the paths with AVX-512 VNNI and no tiles.
#include "isa/attention_vnni.inl"

void attention(const AttentionTask& task, const AttentionPiece& piece) {
  run_attention<VnniAttention>(task, piece);
}
