"""Writes the figures of `hokku bench` into the README: `hokku bench | python tools/bench_readme.py`."""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->\n"


def section(result: dict[str, Any], machine: str) -> str:
    """The README's table for one last line of `hokku bench`."""
    day = datetime.now(UTC).date().isoformat()
    rows = [
        ("prefill, 1,500-token prompt", f"{result['prefill_1500_tokens_per_sec']:,.0f} tokens/s"),
        ("decode, 1 stream", f"{result['decode_1_tokens_per_sec']:,.0f} tokens/s"),
        ("decode, 16 streams", f"{result['decode_16_tokens_per_sec']:,.0f} tokens/s"),
        ("decode, 32 streams", f"{result['decode_32_tokens_per_sec']:,.0f} tokens/s"),
        ("first token, 64-token prompt", f"{result['first_token_64_ms']:,.0f} ms"),
        ("first token, 1,500-token prompt", f"{result['first_token_1500_ms']:,.0f} ms"),
        ("start until ready", f"{result['start_secs']:.2f} s"),
        ("resident memory after a reply", f"{result['resident_mb']:,.0f} MB"),
        ("this machine reads", f"{result['read_gb_per_sec']:.1f} GB/s"),
        ("this machine's int8 peak", f"{result['int8_tops']:.2f} TOPS"),
    ]
    model = f"`{result['model']}` (SmolLM2-135M)" if "haiku" in result["model"] else f"`{result['model']}`"
    head = f"{machine}; {result['isa']}, {result['num_threads']} threads; {model}, {result['weights_format']}; {day}.\n"
    table = "".join(f"| {what} | {measured} |\n" for what, measured in rows)
    return f"{head}\n| What | Measured |\n| --- | --- |\n{table}"


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def main() -> None:
    """Read the bench from standard input, repeat it, and write the README."""
    printed = sys.stdin.read()
    print(printed, end="")
    result = json.loads(printed.splitlines()[-1])
    before, rest = README.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(before + BEGIN + section(result, processor()) + END + after, "utf-8")


if __name__ == "__main__":
    main()
