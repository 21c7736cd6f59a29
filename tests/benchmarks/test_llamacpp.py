"""Reading what llama.cpp's tools print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.engines.job import EngineProblem, Job, Needs, Prompt
from benchmarks.engines.llamacpp import COMPLETIONS, LlamaTools, parse_batched_bench, parse_bench


def test_llama_bench_says_nanoseconds() -> None:
    assert parse_bench(json.dumps([{"n_prompt": 1500, "avg_ns": 1_500_000_000}])) == 1.5


def test_llama_batched_bench_is_prefill_and_generation_together() -> None:
    line = json.dumps({"pp": 16, "tg": 128, "pl": 4, "t_pp": 0.25, "t_tg": 1.5, "speed": 300.0})
    assert parse_batched_bench(f"\nloading\n{line}\n") == 1.75


@pytest.mark.parametrize("output", ["", "[]", "error: no such model", '[{"n_prompt": 1}]'])
def test_a_tool_without_a_result_is_a_problem_and_not_a_zero(output: str) -> None:
    with pytest.raises(EngineProblem, match="gave no result"):
        parse_bench(output)
    with pytest.raises(EngineProblem, match="gave no result"):
        parse_batched_bench(output.replace("{", ""))


def test_a_reply_counts_its_tokens() -> None:
    assert COMPLETIONS.num_tokens(b'HTTP/1.1 200 OK\r\n\r\n{"tokens_predicted":32,"x":1}') == 32
    with pytest.raises(EngineProblem, match="no slot"):
        COMPLETIONS.num_tokens(b'HTTP/1.1 503 Busy\r\n\r\n{"error": "no slot"}')


def test_labels_are_a_grammar_and_end_where_they_end() -> None:
    prompt = Prompt([1, 2], labels=("fault", "praise"))
    _, _, body = COMPLETIONS.request(8080, prompt, 5).partition(b"\r\n\r\n")
    asked = json.loads(body)
    assert asked["grammar"] == 'root ::= "fault" | "praise"'
    assert (asked["ignore_eos"], asked["cache_prompt"]) == (False, True)
    COMPLETIONS.check_answer(prompt, b'HTTP/1.1 200 OK\r\n\r\n{"content": "praise"}')
    with pytest.raises(EngineProblem, match="none of the labels"):
        COMPLETIONS.check_answer(prompt, b'HTTP/1.1 200 OK\r\n\r\n{"content": "prais"}')


def test_prompts_one_after_the_other_take_so_many_times_the_time_of_one(tmp_path: Path) -> None:
    tool = tmp_path / "llama-batched-bench"
    line = json.dumps({"t_pp": 0.25, "t_tg": 0.75})
    tool.write_text(f"#!/bin/sh\ncase \"$*\" in *'-npl 2 '*) echo '{line}';; esac\n")
    tool.chmod(0o755)
    tools = LlamaTools(tmp_path, Needs("model.gguf", threads=1, streams=2, window_tokens=3, total_tokens=6))
    timing = tools.run(Job([Prompt([1])] * 6, max_new_tokens=2, at_a_time=2))
    assert (timing.secs, timing.output_tokens) == (3.0, 12)
