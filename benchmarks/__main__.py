"""`make bench`: sets up the peers, runs everybody in turn on this machine, and writes the comparison down.

Tables go to the terminal, the last line is JSON. A whole run also renews docs/benchmarks.md and its picture; a part
(`--only`, `--peers`, `--quick`) leaves them alone, or renews its rows with `--write`. Everything that is made here lies
in build/.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import machine, report
from benchmarks.contestants import PEER_FAMILIES, REQUANTISED, Field, Weights, field_of
from benchmarks.engines.hokku_server import DEFAULT_SNAPSHOT
from benchmarks.prompts import PromptMaker
from benchmarks.random_models import LARGE, LONG, Shape, write_if_missing
from benchmarks.results import ModelWork, Results
from benchmarks.runner import Runner, in_running_order
from benchmarks.shown import read_shown, renewed
from benchmarks.unfinished import Unfinished
from benchmarks.workloads import Case, ModelName, chosen_cases
from hokku.registry.cache import ModelCache
from hokku.registry.pull import pull
from hokku.registry.registry import Registry
from hokku.settings import load_settings

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "build" / "peers"
MADE_HERE = ROOT / "build" / "bench"
SHOWN = MADE_HERE / "shown.json"  # the figures of the page
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "images" / "benchmarks"
_RANDOM_SHAPES: dict[ModelName, Shape] = {"large": LARGE, "long": LONG}
_WIDTH_OF_A_LOG = 160
_QUICK_CASES = ("W1", "W2", "W3-16")


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="workloads or rows, for example W1,W3-16,W2@avx2")
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEER_FAMILIES)}; none for Hokku alone")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds after the warm-up (3)")
    parser.add_argument(
        "--budget-secs",
        type=float,
        default=15.0,
        help="time after which a slow peer gets no further round (15)",
    )
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(_QUICK_CASES)} in one round")
    parser.add_argument("--write", action="store_true", help="renew the rows of a part on the page, too")
    parser.add_argument("--no-setup", action="store_true", help="take the peers that are there")
    chosen = parser.parse_args()
    chosen.only = _names(chosen.only) or (_QUICK_CASES if chosen.quick else ())
    chosen.peers = _names(chosen.peers)
    chosen.rounds = 1 if chosen.quick else chosen.rounds
    if unknown := [name for name in chosen.peers if name not in (*PEER_FAMILIES, "none")]:
        parser.error(f"no peer is called {', '.join(unknown)}; there are {', '.join(PEER_FAMILIES)}")
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        chosen.cases = chosen_cases(chosen.only)
    except ValueError as problem:
        parser.error(str(problem))
    return chosen


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def default_model() -> Path:
    """The default model's GGUF file, fetched where it is not in the cache."""
    settings = load_settings({}, os.environ)
    return pull(Registry.load(settings.data_dir).resolve(DEFAULT_SNAPSHOT), ModelCache(settings.cache_dir))


def set_up_peers() -> None:
    """Bring the peers with our own Python, and with the build tools that `make setup` may have put beside it."""
    binaries = Path(sys.executable).parent
    environ = {"PYTHON": sys.executable, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    script = ROOT / "benchmarks" / "setup_peers.sh"
    subprocess.run([str(script), str(default_model())], env=os.environ | environ, check=True)


def weights_for(cases: tuple[Case, ...]) -> Weights:
    """The files that these cases need; random ones are written where they are missing."""
    models: dict[ModelName, Path] = {"default": default_model()}
    for name in {case.model for case in cases} & _RANDOM_SHAPES.keys():
        models[name] = write_if_missing(_RANDOM_SHAPES[name], MADE_HERE / "models")
    made = {kind: PEERS / "models" / f"default.{kind}.gguf" for kind in REQUANTISED}
    return Weights(models, {kind: path for kind, path in made.items() if path.exists()})


def works(cases: tuple[Case, ...], weights: Weights) -> dict[str, ModelWork]:
    """What a token costs on each model, whose packed forms are made here where they are missing."""
    cache = MADE_HERE / "cache"
    found = {"default": machine.work_of(DEFAULT_SNAPSHOT)}
    for name in {case.model for case in cases} - {"default"}:
        found[name] = machine.work_of(str(weights.of[name]), cache)
    return found


def measure(chosen: argparse.Namespace, console: Console) -> Results:
    """Run every chosen case that this machine's kernel paths allow."""
    about = machine.describe()
    chosen.cases = tuple(case for case in chosen.cases if not case.isa or case.isa in about["isas"])
    weights = weights_for(chosen.cases)
    field: Field = field_of(PEERS, weights, MADE_HERE / "logs", chosen.peers)
    results = Results(
        about,
        field.versions,
        field.absent,
        machine.measure_ceilings(),
        works(chosen.cases, weights),
    )
    timing = {"rounds": chosen.rounds, "budget_secs": chosen.budget_secs}
    kind = {name: value for name, value in about.items() if name != "date"} | field.versions | timing
    so_far = Unfinished.taken_up(MADE_HERE / "unfinished.json", kind, chosen.cases)
    run_cases(chosen, field, PromptMaker(weights.of["default"]), so_far, console)
    results.resident_mb = so_far.resident_mb
    results.cases = [so_far.results[case.key] for case in chosen.cases]
    results.ceilings = machine.higher(results.ceilings, machine.measure_ceilings())
    so_far.done()
    return results


def run_cases(
    chosen: argparse.Namespace, field: Field, prompts: PromptMaker, so_far: Unfinished, console: Console
) -> None:
    """Measure the chosen cases that an interrupted run has not measured yet."""
    if so_far.results:
        console.print(f"going on after an interrupted run: {', '.join(so_far.results)} are there")
    logs = MADE_HERE / "logs"
    with Runner(
        prompts, MADE_HERE / "cache", chosen.rounds, chosen.budget_secs, console.print, logs
    ) as runner:
        runner.resident_mb = dict(so_far.resident_mb)
        shown = read_shown(SHOWN)
        for result in shown.cases if shown else ():
            runner.recall(result)  # until this run has measured it
        for case in in_running_order(chosen.cases):
            if case.key in so_far.results:
                runner.recall(so_far.results[case.key])
            else:
                so_far.add(runner.run(case, field.contestants), runner.resident_mb)


def with_what_is_shown(part: Results) -> Results:
    """Some rows beside those that the page has of an earlier run, if this machine still has its figures."""
    shown = read_shown(SHOWN)
    if shown is None:
        return part
    cases = tuple(result.case for result in shown.cases)
    shown.work = works(cases, weights_for(cases))
    return renewed(shown, part)


def write_down(results: Results) -> None:
    """Renew the page, the README's table where it has one, and the picture."""
    SHOWN.write_text(json.dumps(results.as_json()) + "\n", "utf-8")
    report.put_between_markers(PAGE, report.markdown(results))
    report.put_between_markers(ROOT / "README.md", report.summary(results))
    draw = [
        str(PEERS / "venv" / "bin" / "python"),
        "-m",
        "benchmarks.plot",
        str(SHOWN),
        str(PICTURE),
    ]
    subprocess.run(draw, cwd=ROOT, check=True)


def main() -> None:
    """Set up, measure, print, write down."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("make bench: stopped"))  # so that no engine outlives it
    console = Console(stderr=True, highlight=False)
    if not chosen.no_setup and "none" not in chosen.peers:
        set_up_peers()
    results = measure(chosen, console)
    report.print_tables(results, Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_LOG))
    line = json.dumps(results.as_json())
    (MADE_HERE / "result.json").write_text(line + "\n", "utf-8")
    if not chosen.only and not chosen.peers:
        write_down(results)
    elif chosen.write:
        write_down(with_what_is_shown(results))
    print(line)


if __name__ == "__main__":
    main()
