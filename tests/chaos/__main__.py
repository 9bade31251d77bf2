"""``python -m tests.chaos --kills N [--seed S] [--json FILE]``: a table of kills, acknowledged and lost."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# The programs are started as the tests start them.
sys.path.append(str(Path(__file__).parents[1]))

from tests.chaos.kills import KINDS, Kind


def main() -> int:
    """Runs the kills; 1 where anything was lost or wrong."""
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crossmodal-chaos-") as folder:
        kinds = {name: Kind(name, Path(folder) / name, chance) for name in KINDS}
        # In a fixed proportion, also where they are few, in random order.
        shares = [((place + 0.5) / share, name) for name, share in KINDS.items() for place in range(share)]
        order = [name for _, name in sorted(shares)]
        queue = (order * (given.kills // len(order) + 1))[: given.kills]
        chance.shuffle(queue)
        # Ctrl-C ends it with what it has found by then.
        with suppress(KeyboardInterrupt):
            for name in queue:
                kinds[name].kill()
            for kind in kinds.values():
                kind.finish()
    report = {
        "kills": sum(kind.kills for kind in kinds.values()),
        "acknowledged": sum(kind.acknowledged for kind in kinds.values()),
        "lost": sum(len(kind.problems) for kind in kinds.values()),
        "seconds": round(time.monotonic() - started, 1),
        "seed": given.seed,
        "kinds": {
            kind.name: {"kills": kind.kills, "acknowledged": kind.acknowledged, "problems": kind.problems}
            for kind in kinds.values()
        },
    }
    print(f"{'killed':<12}{'kills':>8}{'acknowledged':>14}{'lost':>6}")
    for kind in kinds.values():
        print(f"{kind.name:<12}{kind.kills:>8}{kind.acknowledged:>14}{len(kind.problems):>6}")
    print(f"{'all':<12}{report['kills']:>8}{report['acknowledged']:>14}{report['lost']:>6}")
    for kind in kinds.values():
        for problem in kind.problems:
            print(problem, file=sys.stderr)
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if report["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
