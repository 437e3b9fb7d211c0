"""Restart policies of standalone containers. Pure. (Tasks of services have none: the swarm restarts those.)"""

from __future__ import annotations

from enxame.errors import InvalidArgument
from enxame.model.container import ContainerRestartPolicy

FIRST_DELAY, LONGEST_DELAY = 0.1, 60.0
#: A run that lasted so long (seconds) was no failed start: the delay begins anew.
_STEADY = 10.0


def check(policy: ContainerRestartPolicy) -> None:
    """Raise InvalidArgument for a policy that makes no sense, in Docker's words."""
    if policy.name not in {"", "no", "always", "on-failure", "unless-stopped"}:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")


def restarts(policy: ContainerRestartPolicy, *, exit_code: int, stopped_by_user: bool, count: int) -> bool:
    """Whether a container that has ended is to be started again; ``count`` restarts came before."""
    if stopped_by_user:
        return False
    match policy.name:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            return exit_code != 0 and not 0 < policy.maximum_retry_count <= count
        case _:
            return False


def next_delay(previous: float, ran_for: float) -> float:
    """Seconds to wait before the next start; ``previous`` 0 before the first restart."""
    if previous == 0.0 or ran_for >= _STEADY:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)


def starts_with_daemon(policy: ContainerRestartPolicy, *, stopped_by_user: bool) -> bool:
    """Whether a container that does not run is started when the daemon starts."""
    return policy.name == "always" or (policy.name == "unless-stopped" and not stopped_by_user)
