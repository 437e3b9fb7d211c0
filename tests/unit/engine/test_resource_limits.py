import pytest

from enxame.engine.kernel_limits import KernelLimits, parse_numbers
from enxame.engine.resource_limits import possible_limits
from enxame.errors import InvalidArgument
from enxame.model.container import HostConfig, WeightDevice

BARE = KernelLimits(swap=False, blkio_weight=False, blkio_weight_device=False, cpus=frozenset({0, 1, 2, 5}))


def test_what_the_kernel_does_not_know_is_left_out_with_a_warning():
    warnings: list[str] = []
    asked = HostConfig(
        blkio_weight=300,
        blkio_weight_device=[WeightDevice(path="/dev/vda", weight=100)],
        memory=1 << 30,
    )
    possible = possible_limits(asked, warnings, BARE)
    assert (possible.blkio_weight, possible.blkio_weight_device, possible.memory) == (0, None, 1 << 30)
    assert [text.partition(" or the cgroup")[0] for text in warnings] == [
        "Your kernel does not support swap limit capabilities",
        "Your kernel does not support Block I/O weight",
        "Your kernel does not support Block I/O weight_device",
    ]


def test_a_container_that_cannot_run_out_of_memory_is_warned_of():
    warnings: list[str] = []
    possible_limits(HostConfig(oom_kill_disable=True), warnings, KernelLimits())
    assert warnings[0].startswith("OOM killer is disabled for the container, but no memory limit is set")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(cpuset_cpus="1-3"), "Requested CPUs are not available - requested 1-3, available: 0-2,5"),
        (HostConfig(cpuset_cpus="2-1x"), "Invalid value 2-1x for cpuset cpus"),
        (HostConfig(nano_cpus=5_000_000_000), "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        (HostConfig(cpu_realtime_runtime=10), "Your kernel does not support CPU real-time scheduler"),
        (HostConfig(blkio_weight=9), "Range of blkio weight is from 10 to 1000"),
    ],
)
def test_limits_that_this_machine_cannot_give_are_refused(host, message):
    with pytest.raises(InvalidArgument, match=message.replace("(", r"\(")):
        possible_limits(host, [], BARE)


def test_ranges_of_numbers():
    assert parse_numbers("0-2,5") == {0, 1, 2, 5}
