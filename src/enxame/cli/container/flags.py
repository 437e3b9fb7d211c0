"""The flags that ``run`` and ``create`` share."""

import re

import click

from enxame.cli.flags import many, switch, text, value
from enxame.cli.options.fields import parse_env, parse_label, parse_pair
from enxame.cli.options.hosts import parse_extra_host, parse_ip, parse_search_domain
from enxame.cli.options.limits import parse_device, parse_ulimit
from enxame.cli.options.mounts import parse_mount
from enxame.cli.options.numbers import parse_bytes, parse_cpus, parse_duration, parse_int, parse_swap, parse_uint
from enxame.cli.options.references import parse_network


def _attach(text_: str) -> str:
    name = text_.lower()
    if name not in {"stdin", "stdout", "stderr"}:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def _cgroup_rule(text_: str) -> str:
    if not re.match(r"^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$", text_):
        raise ValueError(f"invalid device cgroup format '{text_}'")
    return text_


def _throttle_bytes(text_: str) -> dict[str, object]:
    path, _, rate = text_.rpartition(":")
    if not path:
        raise ValueError(f"bad format: {text_}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text_}")
    return {"Path": path, "Rate": parse_bytes(rate)}


def _throttle_count(text_: str) -> dict[str, object]:
    path, _, rate = text_.rpartition(":")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text_}")
    return {"Path": path, "Rate": parse_uint(rate)}


def _weight(text_: str) -> dict[str, object]:
    path, _, weight = text_.rpartition(":")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text_}")
    number = parse_uint(weight)
    if number and not 10 <= number <= 1000:
        raise ValueError(f"invalid weight for device: {text_}")
    return {"Path": path, "Weight": number}


def container_flags() -> list[click.Option]:
    """All of them."""
    return [*_general(), *_isolation(), *_networking(), *_storage(), *_health(), *_resources()]


def _general() -> list[click.Option]:
    return [
        many("a,attach", "list", "Attach to STDIN, STDOUT or STDERR", _attach),
        many("e,env", "list", "Set environment variables", parse_env),
        many("env-file", "list", "Read in a file of environment variables"),
        text("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
        many("group-add", "list", "Add additional groups to join"),
        text("h,hostname", "Container host name"),
        text("domainname", "Container NIS domain name"),
        switch("i,interactive", "Keep STDIN open even if not attached"),
        many("l,label", "list", "Set meta data on a container", parse_label),
        many("label-file", "list", "Read in a line delimited file of labels"),
        text("name", "Assign a name to the container"),
        text("platform", "Set platform if server is multi-platform capable"),
        text("pull", 'Pull image before running ("always", "missing", "never")', default="missing"),
        switch("q,quiet", "Suppress the pull output"),
        switch("read-only", "Mount the container's root filesystem as read only"),
        text("restart", "Restart policy to apply when a container exits", default="no"),
        switch("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
        text("stop-signal", "Signal to stop the container"),
        value("stop-timeout", "int", parse_int, "Timeout (in seconds) to stop a container"),
        switch("t,tty", "Allocate a pseudo-TTY"),
        text("u,user", "Username or UID (format: <name|uid>[:<group|gid>])"),
        text("w,workdir", "Working directory inside the container"),
        text("cidfile", "Write the container ID to the file"),
        switch("init", "Run an init inside the container that forwards signals and reaps processes"),
        many("annotation", "map", "Add an annotation to the container (passed through to the OCI runtime)", parse_pair),
        text("runtime", "Runtime to use for this container"),
        switch("disable-content-trust", "Skip image verification", default=True, hidden=True),
    ]


def _isolation() -> list[click.Option]:
    return [
        many("cap-add", "list", "Add Linux capabilities"),
        many("cap-drop", "list", "Drop Linux capabilities"),
        switch("privileged", "Give extended privileges to this container"),
        many("security-opt", "list", "Security Options"),
        text("userns", "User namespace to use"),
        text("cgroupns", "Cgroup namespace to use (host|private)"),
        text("cgroup-parent", "Optional parent cgroup for the container"),
        text("ipc", "IPC mode to use"),
        text("pid", "PID namespace to use"),
        text("uts", "UTS namespace to use"),
        text("isolation", "Container isolation technology"),
        many("sysctl", "map", "Sysctl options", parse_pair),
        many("ulimit", "ulimit", "Ulimit options", parse_ulimit),
    ]


def _networking() -> list[click.Option]:
    return [
        many("add-host", "list", "Add a custom host-to-IP mapping (host:ip)", parse_extra_host),
        many("dns", "list", "Set custom DNS servers", parse_ip),
        many("dns-opt", "list", "Set DNS options", hidden=True),
        many("dns-option", "list", "Set DNS options"),
        many("dns-search", "list", "Set custom DNS search domains", parse_search_domain),
        many("expose", "list", "Expose a port or a range of ports"),
        text("ip", "IPv4 address (e.g., 172.30.100.104)"),
        text("ip6", "IPv6 address (e.g., 2001:db8::33)"),
        many("link", "list", "Add link to another container"),
        many("link-local-ip", "list", "Container IPv4/IPv6 link-local addresses"),
        text("mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
        many("p,publish", "list", "Publish a container's port(s) to the host"),
        switch("P,publish-all", "Publish all exposed ports to random ports"),
        many("net", "network", "Connect a container to a network", parse_network, hidden=True),
        many("network", "network", "Connect a container to a network", parse_network),
        many("net-alias", "list", "Add network-scoped alias for the container", hidden=True),
        many("network-alias", "list", "Add network-scoped alias for the container"),
    ]


def _storage() -> list[click.Option]:
    return [
        text("log-driver", "Logging driver for the container"),
        many("log-opt", "list", "Log driver options", parse_pair),
        many("mount", "mount", "Attach a filesystem mount to the container", parse_mount),
        many("storage-opt", "list", "Storage driver options for the container"),
        many("tmpfs", "list", "Mount a tmpfs directory"),
        many("v,volume", "list", "Bind mount a volume"),
        text("volume-driver", "Optional volume driver for the container"),
        many("volumes-from", "list", "Mount volumes from the specified container(s)"),
    ]


def _health() -> list[click.Option]:
    return [
        text("health-cmd", "Command to run to check health"),
        value(
            "health-interval",
            "duration",
            parse_duration,
            "Time between running the check (ms|s|m|h) (default 0s)",
            default=0,
        ),
        value("health-retries", "int", parse_int, "Consecutive failures needed to report unhealthy", default=0),
        value(
            "health-timeout",
            "duration",
            parse_duration,
            "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
            default=0,
        ),
        value(
            "health-start-period",
            "duration",
            parse_duration,
            "Start period for the container to initialize before starting health-retries countdown "
            "(ms|s|m|h) (default 0s)",
            default=0,
        ),
        value(
            "health-start-interval",
            "duration",
            parse_duration,
            "Time between running the check during the start period (ms|s|m|h) (default 0s)",
            default=0,
        ),
        switch("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    ]


def _resources() -> list[click.Option]:
    def number(name: str, summary: str, default: int = 0) -> click.Option:
        return value(name, "int", parse_int, summary, default=default)

    def size(name: str, summary: str) -> click.Option:
        return value(name, "bytes", parse_bytes, summary, default=0)

    return [
        number("blkio-weight", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
        many("blkio-weight-device", "list", "Block IO weight (relative device weight)", _weight),
        number("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
        number("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
        number("cpu-rt-period", "Limit CPU real-time period in microseconds"),
        number("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
        number("c,cpu-shares", "CPU shares (relative weight)"),
        value("cpus", "decimal", parse_cpus, "Number of CPUs", default=0),
        text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
        text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
        many("device", "list", "Add a host device to the container", parse_device),
        many("device-cgroup-rule", "list", "Add a rule to the cgroup allowed devices list", _cgroup_rule),
        many("device-read-bps", "list", "Limit read rate (bytes per second) from a device", _throttle_bytes),
        many("device-read-iops", "list", "Limit read rate (IO per second) from a device", _throttle_count),
        many("device-write-bps", "list", "Limit write rate (bytes per second) to a device", _throttle_bytes),
        many("device-write-iops", "list", "Limit write rate (IO per second) to a device", _throttle_count),
        size("kernel-memory", "Kernel memory limit"),
        size("m,memory", "Memory limit"),
        size("memory-reservation", "Memory soft limit"),
        value(
            "memory-swap",
            "bytes",
            parse_swap,
            "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
            default=0,
        ),
        number("memory-swappiness", "Tune container memory swappiness (0 to 100)", -1),
        switch("oom-kill-disable", "Disable OOM Killer"),
        number("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
        number("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
        size("shm-size", "Size of /dev/shm"),
    ]
