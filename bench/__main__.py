"""`python -m bench`: runs the scenarios on both daemons, prints the table, writes the JSON."""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.cluster_scenarios import CLUSTER_SCENARIOS, ON_REQUEST
from bench.lab import laboratory, median
from bench.machines import machine_room
from bench.report import as_json, table
from bench.scenarios import SCENARIOS, Measurements

NAMES = {"swarm": "dockerd", "enxame": "enxamed"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=NAMES, help="measure one of the two daemons")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each scenario runs; medians are shown (default 1)"
    )
    parser.add_argument(
        "--scenario",
        choices=[*SCENARIOS, *CLUSTER_SCENARIOS],
        action="append",
        help=f"may be given again; when left out, all but {', '.join(ON_REQUEST)}",
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures are written")
    return parser.parse_args()


def measure(which: str, scenarios: list[str], rounds: int) -> Measurements:
    """The median of every figure over the rounds, each round on a fresh daemon."""
    collected: defaultdict[str, list[float]] = defaultdict(list)

    def run(number: int, scenario: str, measured: Callable[[], Measurements]) -> None:
        print(f"{which}, round {number}: {scenario}", file=sys.stderr, flush=True)
        for key, value in measured().items():
            collected[key].append(value)

    alone = [scenario for scenario in scenarios if scenario in SCENARIOS]
    together = [scenario for scenario in scenarios if scenario in CLUSTER_SCENARIOS]
    for number in range(1, rounds + 1):
        if alone:
            with laboratory(which) as lab:
                for scenario in alone:
                    run(number, scenario, partial(SCENARIOS[scenario], lab))
        if together:
            with machine_room(which) as machines:
                for scenario in together:
                    run(number, scenario, partial(CLUSTER_SCENARIOS[scenario], machines))
    return {key: median(values) for key, values in collected.items()}


def main() -> int:
    options = arguments()
    if os.geteuid() != 0:
        print("bench needs root: it starts daemons in network namespaces of their own", file=sys.stderr)
        return 1
    scenarios = options.scenario or [*SCENARIOS, *(name for name in CLUSTER_SCENARIOS if name not in ON_REQUEST)]
    chosen = [options.only] if options.only else list(NAMES)
    results = {NAMES[name]: measure(NAMES[name], scenarios, options.rounds) for name in chosen}
    print(table(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"load": os.getloadavg(), "figures": as_json(results)}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
