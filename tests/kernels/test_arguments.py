"""What does not fit is refused before anything runs, by the argument's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hokku.kernels import (
    Batch,
    KvFormat,
    NativeProgram,
    Operand,
    PackedWeight,
    PagePool,
    Rope,
    Rows,
    Tensor,
    ThreadPool,
    WeightFormat,
    pack_bf16,
    pack_int4,
    pack_int4_codes,
    pack_int8,
    page_bytes,
)
from tests.kernels.steps import batch, normal, program

ROPE = Rope(np.ones((40, 8), np.float32), np.zeros((40, 8), np.float32), 0.25)


def toy() -> NativeProgram:
    """One layer of every operation: 2 heads on 1, head size 16, 20 tokens of vocabulary."""
    p = program(max_rows=8, max_logit_rows=4)
    table = pack_int8(normal(0, 20, 64))
    qkv, q, out = p.tensor(64), p.tensor(32), p.tensor(32)
    p.embed(qkv, table)
    p.rope_and_store(q, qkv, ROPE, 0)
    p.attention(out, q, 0)
    last = p.tensor(32, Rows.LOGITS)
    logits = p.tensor(20, Rows.LOGITS)
    head = pack_int8(normal(1, 20, 32))
    operand = p.operand(32, head, Rows.LOGITS)
    p.gather(last, out)
    p.encode(operand, last)
    p.linear(logits, operand, head)
    p.sample(logits)
    return p


GOOD = batch([1, 2, 3, 4], first_positions=[0, 5], lengths=[3, 1], logit_index=[2, 3], temperature=1)
I32 = np.int32
BAD_STEPS: dict[str, list[dict[str, Any]]] = {
    "tokens": [
        {"tokens": np.array([1, 2, 3, 20], I32)},
        {"tokens": np.array([1, 2, -1, 4], I32)},
        {"tokens": np.array([1, 2, -3, 4], I32), "features": np.zeros((2, 64), np.float32)},
        {"tokens": np.array([1, 2, -(2**31), 4], I32), "features": np.zeros((2, 64), np.float32)},
        {"tokens": np.array([1, 2, 3, 4], np.int64)},
        {"tokens": np.zeros((1, 4), I32)},
        {"tokens": np.zeros(8, I32)[::2]},
        {"tokens": [1, 2, 3, 4]},
        {"tokens": np.zeros(0, I32), "positions": np.zeros(0, I32)},
        {"tokens": np.zeros(9, I32), "positions": np.zeros(9, I32)},
    ],
    "features": [
        {"features": np.zeros((2, 63), np.float32)},
        {"features": np.zeros((2, 64), np.float64)},
        {"features": np.zeros(64, np.float32)},
    ],
    "positions": [
        {"positions": np.array([0, 1, 3, 5], I32)},
        {"positions": np.array([-1, 0, 1, 5], I32)},
        {"positions": np.array([0, 1, 2], I32)},
        {"positions": np.array([0, 1, 2, 40], I32), "page_table": np.array([[0, 0, 0], [1, 1, 1]], I32)},
    ],
    "row_start": [
        {"row_start": np.array([0, 3, 5], I32)},
        {"row_start": np.array([1, 3, 4], I32)},
        {"row_start": np.array([0, 5, 4], I32)},
        {"row_start": np.array([0, 0, 4], I32)},
        {"row_start": np.array([0], I32), "page_table": np.zeros((0, 1), I32)},
    ],
    "page_table": [
        {"page_table": np.array([[0]], I32)},
        {"page_table": np.array([[0], [16]], I32)},
        {"page_table": np.array([[0], [-1]], I32)},
        {"positions": np.array([0, 1, 2, 16], I32)},
    ],
    "logit_index": [
        {"logit_index": np.array([2, 4], I32)},
        {"logit_index": np.array([-1, 3], I32)},
    ],
    "temperature": [
        {"temperature": np.array([1, np.nan], np.float32)},
        {"temperature": np.array([1, -0.5], np.float32)},
        {"temperature": np.array([1], np.float32)},
    ],
    "top_p": [{"top_p": np.array([1, 1.01], np.float32)}, {"top_p": np.array([np.nan, 1], np.float32)}],
    "top_k": [{"top_k": np.array([0, -1], I32)}],
    "seed": [{"seed": np.zeros(2, np.int64)}],
    "counter": [{"counter": np.zeros(3, np.uint64)}],
    "allowed": [
        {"allowed": np.array([[1], [0]], np.uint32)},
        {"allowed": np.array([[1], [1 << 20]], np.uint32)},
        {"allowed": np.ones((2, 2), np.uint32)},
    ],
}


@pytest.mark.parametrize(
    ("name", "changes"), [(name, change) for name, changes in BAD_STEPS.items() for change in changes]
)
def test_a_bad_step_is_refused_by_name(name: str, changes: dict[str, Any]) -> None:
    p = toy()
    with pytest.raises(ValueError, match=rf"^{name}: "):
        p.run(replace(GOOD, **changes))
    assert p.run(GOOD).tokens.shape == (2,)


def test_too_many_logit_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="^logit_index: more than max_logit_rows"):
        toy().run(batch([1], logit_index=[0] * 5))


BAD_RECORDINGS: dict[str, Callable[[NativeProgram, PackedWeight], object]] = {
    "cols": lambda p, w: p.operand(0, w),
    "out": lambda p, w: p.embed(p.tensor(65), w),
    "x": lambda p, w: p.encode(p.operand(64, w), p.tensor(64, Rows.LOGITS)),
    "gain": lambda p, w: p.rms_norm(p.operand(64, w), p.tensor(64), np.ones((1, 64), np.float32), 1e-5),
    "a": lambda p, w: p.linear(p.tensor(20), p.operand(64, pack_bf16(normal(0, 1, 64))), w),
    "bias": lambda p, w: p.linear(p.tensor(20), p.operand(64, w), w, np.ones(21, np.float32)),
    "w": lambda p, w: p.linear_swiglu(p.tensor(10), p.operand(64, w), w),
    "q": lambda p, w: p.rope_and_store(p.tensor(20), p.tensor(64), ROPE, 0),
    "qkv": lambda p, w: p.rope_and_store(p.tensor(32), p.tensor(48), ROPE, 0),
    "layer": lambda p, w: p.rope_and_store(p.tensor(32), p.tensor(64), ROPE, 1),
    "rope": lambda p, w: p.rope_and_store(p.tensor(32), p.tensor(64), wide_rope(), 0),
    "rope.sin": lambda p, w: p.rope_and_store(p.tensor(32), p.tensor(64), replace(ROPE, sin=ROPE.sin[:9]), 0),
    "q_gain": lambda p, w: p.rope_and_store(
        p.tensor(32), p.tensor(64), ROPE, 0, q_gain=np.ones(8, np.float32)
    ),
    "tensor": lambda p, w: p.view(Tensor(99)),
    "logits": lambda p, w: p.sample(p.tensor(20)),
}


def wide_rope() -> Rope:
    return Rope(np.ones((40, 9), np.float32), np.ones((40, 9), np.float32), 1)


@pytest.mark.parametrize("name", BAD_RECORDINGS)
def test_a_bad_recording_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
        BAD_RECORDINGS[name](program(), pack_int8(normal(0, 20, 64)))


def test_segments_of_activations_and_weights_must_agree() -> None:
    whole, halves = pack_int8(normal(0, 1, 128)), pack_int8(normal(0, 1, 128), 2)
    p = program()
    with pytest.raises(ValueError, match="^cols: do not fall into the weight's segments"):
        p.operand(64, halves)
    with pytest.raises(ValueError, match="^a: was encoded for another number of segments"):
        p.linear(p.tensor(1), p.operand(128, whole), halves)


def test_attention_cannot_write_over_its_queries() -> None:
    p = program()
    q = p.tensor(32)
    with pytest.raises(ValueError, match="^out: "):
        p.attention(q, q, 0)


def test_a_buffer_of_another_program_is_refused() -> None:
    with pytest.raises(ValueError, match="^out: is not an operand"):
        program().encode(Operand(0), Tensor(0))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("layers", (0, 1, 1, 16)),
        ("pages", (1, 0, 1, 16)),
        ("kv_heads", (1, 1, 0, 16)),
        ("head_dim", (1, 1, 1, 24)),
    ],
)
def test_bad_pools_are_refused(name: str, sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        PagePool(*sizes)


@pytest.mark.parametrize("kv_format", KvFormat)
def test_a_pool_takes_the_bytes_of_its_pages(kv_format: KvFormat) -> None:
    pool = PagePool(3, 5, 2, 48, kv_format)
    assert (pool.num_pages, pool.kv_format) == (5, kv_format)
    assert pool.nbytes == 5 * page_bytes(3, 2, 48, kv_format)


@pytest.mark.parametrize("kv_format", KvFormat)
def test_pages_come_back_as_they_were_written(kv_format: KvFormat) -> None:
    pool = PagePool(3, 5, 2, 48, kv_format)
    data = np.random.default_rng(1).integers(0, 256, (2, pool.page_bytes), np.uint8)
    pool.write_pages([4, 0], data)
    assert (pool.read_pages([0, 4]) == data[::-1]).all()
    assert not pool.read_pages([1, 2, 3]).any()
    assert pool.read_pages([]).shape == (0, pool.page_bytes)


@pytest.mark.parametrize("page", [-1, 5])
def test_pages_outside_the_pool_are_refused_before_anything_is_copied(page: int) -> None:
    pool = PagePool(3, 5, 2, 48)
    data = np.ones((2, pool.page_bytes), np.uint8)
    with pytest.raises(ValueError, match="^pages: "):
        pool.write_pages([0, page], data)
    with pytest.raises(ValueError, match="^pages: "):
        pool.read_pages([0, page])
    for wrong in (data[:1], data[:, 1:].copy(), data.astype(np.int8)):
        with pytest.raises(ValueError, match="^data: "):
            pool.write_pages([0, 1], wrong)  # type: ignore[arg-type]
    assert not pool.read_pages([0]).any()


def test_bad_threads_and_paths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="^num_threads: "):
        ThreadPool(0)
    with pytest.raises(ValueError, match="isa=sse9: no such kernel path; there are .*portable"):
        program("sse9")
    monkeypatch.setenv("HOKKU_ISA", "sse9")
    with pytest.raises(ValueError, match="HOKKU_ISA=sse9"):
        program()
    assert program("portable").isa == "portable"
    monkeypatch.setenv("HOKKU_ISA", "portable")
    assert program().isa == "portable"


def test_bad_weights_are_refused() -> None:
    good = pack_int4(normal(0, 20, 64))
    p = program()
    for name, weight in {
        "codes": replace(good, codes=good.codes[64:]),
        "rows": replace(good, rows=0),
        "gscale": replace(good, gscale=None),
        "gmin": replace(good, gmin=good.gmin[1:] if good.gmin is not None else None),
        "scale": replace(good, format=WeightFormat.INT8, codes=pack_int8(normal(0, 20, 64)).codes),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: "):
            p.operand(64, weight)
    with pytest.raises(ValueError, match="^segments: only int8"):
        p.operand(128, replace(pack_int4(normal(0, 20, 128)), segments=2))
    for segments in (-1, 0, 2, 5):
        with pytest.raises(ValueError, match="^segments: must be equal"):
            pack_int8(normal(0, 20, 192), segments)
    unaligned = np.zeros(good.codes.size + 64, np.uint8)
    start = (-unaligned.ctypes.data) % 64 + 8
    with pytest.raises(ValueError, match="^codes: must begin at a multiple of 64"):
        p.operand(64, replace(good, codes=unaligned[start : start + good.codes.size]))
    with pytest.raises(ValueError, match="^weights: "):
        pack_int8(np.zeros((0, 4), np.float32))
    with pytest.raises(ValueError, match="^nibbles: columns"):
        pack_int4_codes(
            np.zeros((2, 40), np.uint8), np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)
        )


def test_a_batch_is_what_the_engine_sends() -> None:
    """No logit rows: the token part runs and nothing is drawn."""
    p = toy()
    empty = batch([1, 2, 3])
    assert isinstance(empty, Batch)
    assert p.run(empty).tokens.shape == (0,)
