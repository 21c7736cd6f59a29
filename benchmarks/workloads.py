"""What is measured: every workload's token counts, who takes part, and the targets, each in this one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from benchmarks.tickets import LABELS

ModelName = Literal["default", "large", "long"]
PREFILL_TOKENS = 1_500
STREAM_PROMPT_TOKENS = 16
STREAM_OUTPUT_TOKENS = 128
SINGLE_PROMPTS = 6  # one after the other: how far drafts get hangs on the text, so one prompt says little
STREAMS = (16, 32)
SHARED_PREFIX_TOKENS = 2_048
TAIL_TOKENS = 64
SHARED_REQUESTS = 64
SHARED_AT_A_TIME = 16
SHARED_OUTPUT_TOKENS = 32
LABEL_REQUESTS = 64
LABEL_TOKENS = 16  # more than the longest has
LABEL_BATCH_REQUESTS = 3_000  # of the 10,000 that it is about: minutes, and the rate is the same
LABEL_SAMPLE = 32  # of these, for peers that need a second for each
LARGE_PREFILL_TOKENS = 1_024
LARGE_OUTPUT_TOKENS = 32
LONG_PROMPTS = (1_000, 4_000, 8_000)
VERY_LONG_TOKENS = 32_000

HOKKU = "Hokku"
LLAMA_CPP = "llama.cpp"
LLAMA_CPP_AVX2 = "llama.cpp AVX2"
OPENVINO = "OpenVINO GenAI"
XLLAMACPP = "xllamacpp"
VLLM = "vLLM"
IN_PROCESS = "in process"  # Hokku's engine without HTTP, which W7 compares with
NO_BATCH = "without a batch"  # what W10 compares chats beside one with
WHAT_IS_LEFT = "what chats leave"  # of the machine, for the batch of W10


class Metric(StrEnum):
    """What a case's figure is, and its unit."""

    PROMPT_RATE = "prompt tokens/s"
    OUTPUT_RATE = "tokens/s"
    REQUEST_RATE = "requests/s"
    START = "s"
    FIRST_TOKEN = "ms to first token"

    @property
    def more_is_better(self) -> bool:
        """False for times."""
        return self not in (Metric.START, Metric.FIRST_TOKEN)


class Asked(StrEnum):
    """How the engines of a case are asked."""

    IN_PROCESS = "in process"
    OVER_HTTP = "over HTTP"
    STREAMED = "over HTTP with SSE"
    IN_A_BATCH = "in a Message Batch"  # those who have none: over HTTP


class PromptKind(StrEnum):
    """Where a case's prompts come from."""

    TEXT = "text"  # English prose, each prompt and each round its own
    SHARED_PREFIX = "shared prefix"
    CHAT = "chat"  # questions whose answers run on for as long as they may
    LABELS = "labels"  # texts behind instructions that are always the same, each to be put under one of some labels


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: one job, run by several engines in turn."""

    key: str
    title: str
    metric: Metric
    families: tuple[str, ...]  # of engines that take part, Hokku included
    streams: int = 1  # requests
    at_a_time: int = 0  # of them under way at once; 0: all
    sample: int = 0  # of them for peers, where all would take hours; 0: all
    prompt_tokens: int = STREAM_PROMPT_TOKENS
    output_tokens: int = STREAM_OUTPUT_TOKENS
    model: ModelName = "default"
    asked: Asked = Asked.IN_PROCESS
    prompts: PromptKind = PromptKind.TEXT
    beside: str = ""  # measured by `beside_a_batch.py`: which of its pairs of figures this is
    isa: str = ""  # Hokku's forced path
    speculation: bool = True  # Hokku's drafts from a stream's own past, on by default
    starts_anew: bool = False  # each measurement begins with a new process, and counts it
    fewer_rounds: bool = False  # one, without a warm-up
    variants_as_in: str = ""  # of each family only the weights that were fastest in the case of this key
    target_ratio: float | None = None  # Hokku over the best peer, the better way round
    target_mfu: float | None = None
    target_mbu: float | None = None
    target_most: float | None = None  # an absolute limit in the case's unit
    grows_from: str = ""  # key of the case whose cost per token this one's is compared with
    target_growth: float | None = None

    @property
    def workload(self) -> str:
        """The issue's name: W1 to W11."""
        return self.key.split("-")[0].split("@")[0]

    @property
    def window_tokens(self) -> int:
        """Of one request."""
        return self.prompt_tokens + self.output_tokens

    @property
    def concurrency(self) -> int:
        """Requests under way at once."""
        return self.at_a_time or self.streams


_EVERYBODY = (HOKKU, LLAMA_CPP, OPENVINO, XLLAMACPP, VLLM)


def _prefill_and_streams(
    families: tuple[str, ...], *, isa: str = "", fewer_rounds: bool = False
) -> list[Case]:
    """W1 to W3, with Hokku on the path of its own choice or on a forced one."""
    suffix = f"@{isa}" if isa else ""
    won_at_first = f"W1{suffix}" if isa else ""
    told = f", {isa} forced" if isa else ""
    # On AVX2 the issue asks to be ahead of a llama.cpp that is limited the same way; elsewhere for these ratios.
    ratios = {"": (3.0, 2.5, 5.0, 6.0), "avx2": (1.0, 1.0, 1.0, 1.0)}.get(isa, (None,) * 4)
    cases = [
        Case(
            f"W1{suffix}",
            f"prefill, {PREFILL_TOKENS:,} tokens{told}",
            Metric.PROMPT_RATE,
            families,
            prompt_tokens=PREFILL_TOKENS,
            output_tokens=1,
            isa=isa,
            fewer_rounds=fewer_rounds,
            target_ratio=ratios[0],
            target_mfu=None if isa else 0.4,
        ),
        Case(
            f"W2{suffix}",
            f"1 stream{told}",
            Metric.OUTPUT_RATE,
            families,
            streams=SINGLE_PROMPTS,
            at_a_time=1,
            isa=isa,
            fewer_rounds=fewer_rounds,
            variants_as_in=won_at_first,
            target_ratio=ratios[1],
        ),
    ]
    if not isa:
        cases.append(_without_drafts(cases[-1], target_mbu=0.7))
    for streams, ratio in zip(STREAMS, ratios[2:], strict=True):
        cases.append(
            Case(
                f"W3-{streams}{suffix}",
                f"{streams} streams{told}",
                Metric.OUTPUT_RATE,
                families,
                streams=streams,
                isa=isa,
                fewer_rounds=fewer_rounds,
                variants_as_in=won_at_first,
                target_ratio=ratio,
            )
        )
    return cases


def _without_drafts(case: Case, target_mbu: float) -> Case:
    """The same job with a token a step: what the hardware gives, whatever the text repeats."""
    return replace(
        case,
        key=f"{case.key}-plain",
        title=f"{case.title}, drafts off",
        families=(HOKKU,),
        speculation=False,
        target_ratio=None,
        target_mbu=target_mbu,
    )


def _large() -> list[Case]:
    families = (HOKKU, LLAMA_CPP, OPENVINO)
    cases = [
        Case(
            "W5-prefill",
            f"1.5 B shape: prefill, {LARGE_PREFILL_TOKENS:,} tokens",
            Metric.PROMPT_RATE,
            families,
            prompt_tokens=LARGE_PREFILL_TOKENS,
            output_tokens=1,
            model="large",
            target_ratio=2.0,
        )
    ]
    for streams, ratio in ((1, 1.1), (16, 2.0)):
        cases.append(
            Case(
                f"W5-{streams}",
                f"1.5 B shape: {streams} stream{'s' if streams > 1 else ''}",
                Metric.OUTPUT_RATE,
                families,
                streams=streams,
                output_tokens=LARGE_OUTPUT_TOKENS,
                model="large",
                target_ratio=ratio,
            )
        )
    cases.insert(2, _without_drafts(cases[1], target_mbu=0.8))
    return cases


def _long_prompts() -> list[Case]:
    def case(num_tokens: int, model: ModelName, families: tuple[str, ...], base: str) -> Case:
        kilo = num_tokens // 1_000
        prefix = "W8-long" if model == "long" else "W8"
        shape = "2 layers, random: " if model == "long" else ""
        return Case(
            f"{prefix}-{kilo}k",
            f"{shape}first token after {num_tokens:,} tokens",
            Metric.FIRST_TOKEN,
            families,
            prompt_tokens=num_tokens,
            output_tokens=1,
            model=model,
            fewer_rounds=num_tokens == VERY_LONG_TOKENS,  # half a minute each on two cores
            variants_as_in="W1",
            grows_from="" if num_tokens == LONG_PROMPTS[0] else base,
            target_growth=1.3 if num_tokens == 4_000 else None,
        )

    several = (HOKKU, LLAMA_CPP, OPENVINO)
    cases = [case(num_tokens, "default", several, "W8-1k") for num_tokens in LONG_PROMPTS]
    return [
        *cases,
        case(LONG_PROMPTS[0], "long", (HOKKU,), ""),
        case(VERY_LONG_TOKENS, "long", (HOKKU,), "W8-long-1k"),
    ]


SHARED_PREFIX = Case(
    "W4",
    f"{SHARED_REQUESTS} requests over one {SHARED_PREFIX_TOKENS:,}-token prefix",
    Metric.REQUEST_RATE,
    (HOKKU, LLAMA_CPP, OPENVINO, VLLM),
    streams=SHARED_REQUESTS,
    at_a_time=SHARED_AT_A_TIME,
    # What a template adds around the texts comes on top.
    prompt_tokens=SHARED_PREFIX_TOKENS + TAIL_TOKENS + 64,
    output_tokens=SHARED_OUTPUT_TOKENS,
    asked=Asked.OVER_HTTP,
    prompts=PromptKind.SHARED_PREFIX,
    variants_as_in="W1",
    target_ratio=5.0,
)
LABELLED = Case(
    "W9",
    f"one of {len(LABELS)} labels, forced, over one cached {SHARED_PREFIX_TOKENS:,}-token prompt",
    Metric.REQUEST_RATE,
    (HOKKU, LLAMA_CPP),
    streams=LABEL_REQUESTS,
    at_a_time=SHARED_AT_A_TIME,
    # The last example may go beyond the prefix; a text, and what a template adds, come on top.
    prompt_tokens=SHARED_PREFIX_TOKENS + 192,
    output_tokens=LABEL_TOKENS,
    asked=Asked.OVER_HTTP,
    prompts=PromptKind.LABELS,
    variants_as_in="W1",
    target_ratio=5.0,
)
FIRST_TOKEN_BESIDE = Case(
    "W10",
    "first token of chats beside a batch, p95, against without",
    Metric.FIRST_TOKEN,
    (HOKKU, NO_BATCH),
    asked=Asked.STREAMED,
    beside="first token",
    target_ratio=0.67,  # at most one and a half times as long
)
BATCH_BESIDE = Case(
    "W10-batch",
    "that batch beside chats, against its share of the machine",
    Metric.REQUEST_RATE,
    (HOKKU, WHAT_IS_LEFT),
    asked=Asked.STREAMED,
    beside="batch",
    target_ratio=0.8,
)
LABELLED_BATCH = Case(
    "W11",
    f"W9's job {LABEL_BATCH_REQUESTS:,} times in one batch, against {SHARED_AT_A_TIME} clients",
    Metric.REQUEST_RATE,
    (HOKKU, LLAMA_CPP),
    streams=LABEL_BATCH_REQUESTS,
    at_a_time=SHARED_AT_A_TIME,
    sample=LABEL_SAMPLE,
    prompt_tokens=LABELLED.prompt_tokens,
    output_tokens=LABEL_TOKENS,
    asked=Asked.IN_A_BATCH,
    prompts=PromptKind.LABELS,
    fewer_rounds=True,
    variants_as_in="W9",
    target_ratio=5.0,
)
START_UP = Case(
    "W6",
    "process start to first token",
    Metric.START,
    (HOKKU, LLAMA_CPP, OPENVINO, XLLAMACPP),  # vLLM takes the better part of a minute
    prompt_tokens=64,
    output_tokens=1,
    asked=Asked.OVER_HTTP,
    prompts=PromptKind.CHAT,
    starts_anew=True,
    target_ratio=1.0,
    target_most=1.0,
)
WIRE = Case(
    "W7",
    f"{STREAMS[1]} streams over HTTP with SSE, against in process",
    Metric.OUTPUT_RATE,
    (HOKKU, IN_PROCESS),
    streams=STREAMS[1],
    prompt_tokens=64,
    asked=Asked.STREAMED,
    prompts=PromptKind.CHAT,
    target_ratio=0.9,
)
MOST_RESIDENT_MB = 400.0  # of the server, with the streams of W7


def all_cases() -> tuple[Case, ...]:
    """Every row, in the order of the table."""
    return (
        *_prefill_and_streams(_EVERYBODY),
        SHARED_PREFIX,
        *_large(),
        START_UP,
        WIRE,
        *_long_prompts(),
        LABELLED,
        FIRST_TOKEN_BESIDE,
        BATCH_BESIDE,
        LABELLED_BATCH,
        *_prefill_and_streams((HOKKU,), isa="avx512"),
        *_prefill_and_streams((HOKKU, LLAMA_CPP_AVX2), isa="avx2"),
        *_prefill_and_streams((HOKKU,), isa="portable", fewer_rounds=True),
    )


def chosen_cases(only: tuple[str, ...]) -> tuple[Case, ...]:
    """The cases that `--only` names by key or by workload; all when it names none.

    A workload's name takes its forced paths along (`W1@avx2` is of W1) only where they are named too.

    Raises:
        ValueError: a name that no case has.
    """
    cases = all_cases()
    known = {case.key for case in cases} | {case.workload for case in cases}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"no workload is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    if not only:
        return cases
    return tuple(
        case for case in cases if case.key in only or (case.workload in only and "@" not in case.key)
    )
