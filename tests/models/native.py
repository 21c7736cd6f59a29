"""Running packed models on the native program."""

from __future__ import annotations

from hokku.kernels import NativeProgram, PagePool, ThreadPool
from hokku.kernels.program import F32, I32, PAGE_TOKENS
from hokku.models.layers import Forward
from hokku.models.packing import PackedModel
from tests.models.house import whole

NUM_THREADS = 2


def on_native(
    model: PackedModel, max_rows: int, max_logit_rows: int, pages: int, isa: str | None = None
) -> tuple[NativeProgram, Forward]:
    """A packed model's forward pass, recorded on a native program with pages of its own."""
    config = model.config
    pool = PagePool(config.layers, pages, config.kv_heads, config.head_dim, model.kv_format)
    program = NativeProgram(max_rows, max_logit_rows, pool, ThreadPool(NUM_THREADS), isa)
    return program, model.record(program, max_positions=pages * PAGE_TOKENS)


def native_logits(model: PackedModel, tokens: I32, row_start: I32, isa: str | None = None) -> F32:
    """Logits of every row, every sequence from its first token on."""
    step = whole(tokens, row_start)
    program, forward = on_native(model, len(tokens), len(tokens), step.page_table.size, isa)
    program.run(step)
    return program.view(forward.logits).copy()
