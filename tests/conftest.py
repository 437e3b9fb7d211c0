"""Options and fixtures that tests of several layers share."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from enxame.testing import sample_image
from enxame.testing.daemons import DAEMONS, Daemon
from enxame.testing.namespace import HostAndOutside


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--daemon",
        choices=DAEMONS,
        default="enxamed",
        help="the daemon behind the tests of clients and faults; dockerd shows that the tests themselves are right",
    )


def pytest_configure() -> None:
    # A busy machine makes no example wrong; pytest's own time limits find what hangs.
    settings.register_profile("enxame", deadline=None)
    settings.load_profile("enxame")
    # A run that is told to end tears down what its fixtures made, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def daemon_class(request: pytest.FixtureRequest) -> type[Daemon]:
    return DAEMONS[request.config.getoption("--daemon")]


@pytest.fixture(scope="session")
def sample_archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The sample image as a tar archive."""
    path = tmp_path_factory.mktemp("image") / "sample.tar"
    sample_image.build(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def short_directory() -> Iterator[Callable[[], Path]]:
    """Makes directories for real daemons, gone with the module. They are not pytest's own: the paths of sockets must be
    short.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces, containers")
    with ExitStack() as stack:
        yield lambda: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enxt-", dir="/var/tmp")))


@pytest.fixture(scope="module")
def start_daemon(
    daemon_class: type[Daemon], sample_archive: bytes, short_directory: Callable[[], Path]
) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons in namespaces of their own, with the sample image loaded; ends them with the module."""
    with ExitStack() as stack:

        def start(*extra_args: str, directory: Path | None = None) -> Daemon:
            network = stack.enter_context(HostAndOutside("t"))
            home = (directory or short_directory()) / "d"
            daemon = stack.enter_context(daemon_class(home, network, extra_args=extra_args))
            daemon.api.post("/images/load", sample_archive)
            return daemon

        yield start


@pytest.fixture(scope="module")
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    """One daemon for all tests of a module, in no swarm at first."""
    return start_daemon()


@pytest.fixture
def swarm(daemon: Daemon) -> Iterator[Daemon]:
    """The module's daemon with a swarm of one; what services and containers a test leaves are removed."""
    if daemon.api.get("/info")["Swarm"]["LocalNodeState"] != "active":
        daemon.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    yield daemon
    for service in daemon.api.get("/services"):
        daemon.api.delete(f"/services/{service['ID']}")
    remove_containers(daemon)


def remove_containers(daemon: Daemon) -> None:
    """Remove every container of the daemon, and wait for those that the swarm removes by itself."""
    from enxame.testing.daemons import wait_until
    from enxame.testing.engine_client import ApiError

    def none_left() -> bool:
        left = daemon.api.get("/containers/json", all="1")
        for container in left:
            try:
                daemon.api.delete(f"/containers/{container['Id']}", force="1", v="1")
            except ApiError as error:
                if error.status not in (404, 409):  # gone, or being removed by the swarm
                    raise
        return not left

    wait_until(none_left, "no container is left", timeout=60)
