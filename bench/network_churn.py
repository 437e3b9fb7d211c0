"""Whether networks leak: ``python -m bench.network_churn [--rounds N]`` (as root; a round takes one to three seconds).

Three machines, on which services, networks and containers come, change and go, while daemons are killed, nodes drained
and cables pulled. After every twenty rounds all that the machines hold is compared with what they held before the
first: links, addresses, routes, neighbours, forwarding entries, rules with their elements, namespaces, tracked
connections, files, mounts, descriptors. What the swarm gives out (addresses, subnets, VXLAN ids, ports) is so scarce
there that the rounds soon fail when it is not given back. The exit code is 1 when anything leaked.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time
from contextlib import nullcontext
from typing import Any

from enxame.testing import sample_image
from enxame.testing.cluster import Cluster
from enxame.testing.network_churn import Churn, Leaked, small_swarm


def resident(cluster: Cluster) -> str:
    """Memory of the daemons, MB."""
    pages = [pathlib.Path(f"/proc/{machine.pid}/statm").read_text().split()[1] for machine in cluster.machines]
    return ", ".join(f"{int(each) * 4096 / 1e6:.0f}" for each in pages)


def churn(cluster: Cluster, rounds: int, every: int, seed: int, turn: Any = nullcontext) -> int:
    """Do the rounds; the exit code. ``turn`` is entered for as many as are compared together."""
    done = Churn(cluster, seed)
    with turn():
        small_swarm(cluster)
        done.prepare()
    number, leaks = 0, 0
    while number < rounds:
        with turn():
            began = time.monotonic()
            last = min(rounds, number + every)
            while number < last:
                number += 1
                done.round(number)
            took = time.monotonic() - began
            try:
                done.expect_nothing_leaked()
                found = "nothing leaked"
            except Leaked as leaked:
                found = f"LEAKED:\n{leaked}"
                leaks += 1
        print(f"{number} rounds, {took / every:.1f} s each; daemons have {resident(cluster)} MB; {found}", flush=True)
        if leaks > 2:
            break
    print(f"faults: {done.faults}")
    return 1 if leaks else 0


def main() -> int:
    """Print how it goes; the exit code tells whether anything leaked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--every", type=int, default=20, help="compare after so many rounds")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="enxk-", dir="/var/tmp") as directory:
        image = pathlib.Path(directory) / "sample.tar"
        sample_image.build(image)
        with Cluster(pathlib.Path(directory), image.read_bytes()) as cluster:
            return churn(cluster, arguments.rounds, arguments.every, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
