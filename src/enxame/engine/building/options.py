"""What a client wants of a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from enxame.model.container import Ulimit
from enxame.model.image import RegistryAuth

__all__ = ["BuildOptions"]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The parameters of ``POST /build``. Sizes are bytes, CPU times microseconds; 0 and empty: not wanted.

    ``arguments`` whose value is None take the daemon's environment in Docker's command; here they are left out.
    ``credentials`` by registry.
    """

    dockerfile: str = "Dockerfile"
    tags: Sequence[str] = ()
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    network: str = ""
    extra_hosts: Sequence[str] = ()
    ulimits: Sequence[Ulimit] = ()
    no_cache: bool = False
    pull: bool = False
    squash: bool = False
    quiet: bool = False
    memory: int = 0
    memory_swap: int = 0
    shm_size: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    credentials: Mapping[str, RegistryAuth] = field(default_factory=dict)
