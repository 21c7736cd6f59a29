"""Times a picture's encoder at two shapes, beside what the machine can do: `python -m benchmarks.encoder`.

Towers of random weights: the default model's eyes and SmolVLM-256M's. Milliseconds of a tile are medians; its share is
of the machine's int8 peak, measured in turns with the tiles. `--operations` says where they go. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hokku.kernels import ThreadPool, WeightFormat, cpu_report, measure_peaks
from hokku.kernels.program import F32
from hokku.models.vision import TileEncoder, Tower, VisionConfig
from hokku.models.vision.weights import SAFETENSORS_NAMES
from hokku.protocol.pictures import Tile, Tiling


def shape(edge: int, hidden: int, layers: int, joined: int) -> VisionConfig:
    """A SigLIP of patches of 16 pixels, in front of a language model of 576."""
    rows = (edge // 16 // joined) ** 2
    half = (0.5, 0.5, 0.5)
    return VisionConfig(
        layers=layers,
        hidden=hidden,
        heads=hidden // 64,
        head_dim=64,
        ffn=4 * hidden,
        edge=edge,
        patch=16,
        joined=joined,
        layer_norm_eps=1e-6,
        out=576,
        mean=half,
        deviation=half,
        tiling=Tiling("single", edge, rows),
    )


SHAPES = {"eyes": shape(256, 256, 8, 2), "smolvlm-256m": shape(512, 768, 12, 4)}


@dataclass(frozen=True, slots=True)
class RandomTensors:
    """Whatever a tower asks for, in the size of its config."""

    config: VisionConfig
    path: Path = Path("random")

    def floats(self, name: str) -> F32:
        """Normal values that keep the width of what they multiply."""
        c = self.config
        sizes: dict[str, tuple[int, ...]] = {
            "patch_embedding.weight": (c.hidden, c.patch_values),
            "position_embedding.weight": (c.patches**2, c.hidden),
            "fc1.weight": (c.ffn, c.hidden),
            "fc1.bias": (c.ffn,),
            "fc2.weight": (c.hidden, c.ffn),
            "modality_projection.proj.weight": (c.out, c.joined**2 * c.hidden),
        }
        size = next((size for end, size in sizes.items() if name.endswith(end)), None)
        if size is None:
            is_matrix = name.endswith("proj.weight")
            size = (c.hidden, c.hidden) if is_matrix else (c.hidden,)
        values = np.random.default_rng(len(name)).standard_normal(size, dtype=np.float32)
        return values / np.float32(np.sqrt(size[-1])) if len(size) > 1 else values


@dataclass(frozen=True, slots=True)
class Measured:
    """One tower in one format."""

    tower: str
    format: str
    milliseconds: float  # a tile
    gops: float  # in a tile: two a multiply-add
    tops: float
    share: float  # of the int8 peak


def num_ops(c: VisionConfig) -> float:
    """Of a tile's products: those of linears, of scores and of outputs."""
    patches = c.patches**2
    layer = 4 * c.hidden**2 + 2 * c.hidden * c.ffn + 2 * patches * c.hidden
    connector = c.rows * c.joined**2 * c.hidden * c.out
    return 2.0 * (patches * (c.layers * layer + c.patch_values * c.hidden) + connector)


def milliseconds(encoder: TileEncoder, tile: Tile) -> float:
    """Of one tile."""
    begin = time.perf_counter()
    encoder.encode(tile)
    return (time.perf_counter() - begin) * 1e3


def print_operations(encoder: TileEncoder, tile: Tile) -> None:
    """Where one tile's milliseconds go."""
    encoder.program.time_operations()
    totals: dict[str, float] = defaultdict(float)
    for _ in range(3):
        encoder.encode(tile)
        for name, seconds in encoder.program.timings():
            totals[name] += seconds / 3
    for name, seconds in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"    {name:<30}{seconds * 1e3:>8.2f} ms")


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--isa", default=None, help="kernel path (default: HOKKU_ISA or the widest)")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="towers whose name contains this")
    parser.add_argument("--operations", action="store_true", help="the time of each operation, too")
    arguments = parser.parse_args()

    threads = ThreadPool(arguments.threads)
    isa = cpu_report(arguments.isa).isa
    results = []
    print(f"{isa}, {threads.num_threads} threads")
    print(f"{'tower':<16}{'format':>8}{'ms':>10}{'GOP':>8}{'TOPS':>8}{'of peak':>9}")
    for name, config in SHAPES.items():
        if arguments.only not in name:
            continue
        tile = Tile(
            np.random.default_rng(0).integers(0, 256, (config.edge, config.edge, 3), np.uint8), config.rows
        )
        for weight_format in (WeightFormat.INT8, WeightFormat.BF16):
            tower = Tower(config, RandomTensors(config), SAFETENSORS_NAMES)
            encoder = TileEncoder(tower, threads, weight_format, isa)
            encoder.encode(tile)
            times, peaks = [], []
            for _ in range(arguments.rounds):
                times += [milliseconds(encoder, tile) for _ in range(3)]
                peaks.append(measure_peaks(0.3, threads, isa).int8_tops)
            taken, peak = statistics.median(times), statistics.median(peaks)
            gops = num_ops(config) * 1e-9
            result = Measured(
                name, weight_format.name.lower(), taken, gops, gops / taken, gops / taken / peak
            )
            results.append(result)
            print(
                f"{name:<16}{result.format:>8}{taken:>10.2f}{gops:>8.1f}{result.tops:>8.2f}{result.share:>9.1%}"
            )
            if arguments.operations:
                print_operations(encoder, tile)
    print(json.dumps({"isa": isa, "threads": threads.num_threads, "results": [asdict(r) for r in results]}))


if __name__ == "__main__":
    main()
