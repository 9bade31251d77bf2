"""The command line of the benchmarks: ``python -m bench NAME``; without arguments, what there is."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.cases import CASES
from bench.harness import REPOSITORY, Options
from crossmodal.errors import CrossmodalError, DataError
from crossmodal.settings import exported

__all__ = ["main"]

_SHARED_DATA = REPOSITORY.parent / "shared" / "data"

# What a quick run may take, less what starting it and ending its last round take.
_QUICK_SECONDS = 36.0

# With fewer, nothing that grows can be told from what is always there.
_FEWEST_VECTORS = 1000

# What numpy, torch, faiss and OpenMP read once, when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one benchmark, or all of them; the exit code is 0 unless one could not be measured."""
    given = _parser().parse_args(arguments)
    # Servers that were started are ended then as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if given.name is None:
            print(_listing())
            return 0
        if given.name == "table":
            from bench.report import write_tables

            write_tables(given.files)
            return 0
        if given.files:
            print(f"error: {given.name} takes no files: {' '.join(map(str, given.files))}", file=sys.stderr)
            return 2
        if given.vectors and given.name != "scaling":
            print(f"error: --vectors goes with scaling, not with {given.name}", file=sys.stderr)
            return 2
        if min(given.vectors, default=_FEWEST_VECTORS) < _FEWEST_VECTORS:
            print(f"error: --vectors is {min(given.vectors)}, at least {_FEWEST_VECTORS:,}", file=sys.stderr)
            return 2
        if given.data is not None and not given.data.is_dir():
            raise DataError(f"{given.data} is no folder; --data takes one, and without it toy data is used.")
        if given.json is not None:
            # An error now is better than one after an hour.
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.open("a").close()
        return _run_all(given) if given.name == "all" else _run(given)
    except (CrossmodalError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(given: argparse.Namespace) -> int:
    case = CASES[given.name]
    deadline = time.perf_counter() + _QUICK_SECONDS if given.quick else None
    options = Options(given.quick, given.data, given.workspace.absolute(), deadline, tuple(given.vectors))
    threads = {} if case.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(case.threads))
    with exported(threads):
        from dataclasses import replace

        from bench.report import facts, print_results, write_results

        before = facts(case.threads)
        results = case.measure(options)
        machine = {**before, "load_average": [before["load_average"], facts(case.threads)["load_average"]]}
    results = [replace(result, machine=machine) for result in results]
    print_results(results)
    if given.json is not None:
        write_results(given.json, results)
    return 0


def _run_all(given: argparse.Namespace) -> int:
    """Each benchmark in a process of its own: what one has loaded and occupied doesn't touch the next."""
    from bench.report import read_results, write_results

    failed = []
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in CASES:
            file = Path(folder) / f"{name}.json"
            arguments = [sys.executable, "-m", "bench", name, "--json", file, "--workspace", given.workspace]
            arguments += ["--quick"] if given.quick else []
            arguments += ["--data", given.data] if given.data else []
            if subprocess.run(arguments, check=False).returncode:
                failed.append(name)
            else:
                results += read_results(file)
    if given.json is not None:
        write_results(given.json, results)
    if failed:
        print(f"error: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=_listing(), formatter_class=_FORMATTER
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", choices=[*CASES, "all", "table"], help=argparse.SUPPRESS
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="RESULTS.json", help="what `table` reads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    parser.add_argument(
        "--quick", action="store_true", help="at most 45 seconds: less data, fewer goals judged"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        default=_SHARED_DATA if _SHARED_DATA.is_dir() else None,
        help="a folder with coco-photos, flickr8k, flickr30k-captions; toy data stands in for what it lacks",
    )
    parser.add_argument(
        "--vectors", nargs="+", type=int, default=[], metavar="N", help="how many, of `scaling`"
    )
    parser.add_argument(
        "--workspace",
        type=Path,
        metavar="FOLDER",
        default=REPOSITORY / "workspace" / "bench",
        help="where weights, stores and environments are kept for the next run (default workspace/bench)",
    )
    return parser


_FORMATTER = argparse.RawDescriptionHelpFormatter


def _listing() -> str:
    width = max(map(len, CASES))
    lines = [f"  {name:<{width}}  {case.measures}" for name, case in CASES.items()]
    return "\n".join(
        [
            "Ratios measured in one run against named references. NAME is one of",
            "",
            *lines,
            "",
            f"  {'all':<{width}}  every one of them, each in a process of its own",
            f"  {'table':<{width}}  write the results in RESULTS.json into docs/performance.md",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
