"""The flags of ``service create`` and ``service update``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import click

from enxame.cli.flags import many, switch, text, value
from enxame.cli.options.fields import parse_env, parse_label, parse_pair
from enxame.cli.options.hosts import parse_extra_host, parse_ip, parse_search_domain
from enxame.cli.options.limits import parse_ulimit
from enxame.cli.options.mounts import parse_mount
from enxame.cli.options.numbers import (
    parse_bytes,
    parse_cpus,
    parse_duration,
    parse_float,
    parse_int,
    parse_positive_duration,
    parse_swap,
    parse_uint,
)
from enxame.cli.options.ports import parse_service_port
from enxame.cli.options.references import (
    parse_config,
    parse_credential_spec,
    parse_network,
    parse_placement_preference,
    parse_secret,
)

_list = partial(many, kind="list")


def _told(what: str, default: str, *, creating: bool) -> str:
    """A summary; who creates a service sees what holds without the flag."""
    return f"{what} (default {default})" if creating else what


def _update_flags(kind: str, noun: str, *, creating: bool) -> list[click.Option]:
    """The six flags of an update's (or a rollback's) conduct."""
    told = partial(_told, creating=creating)
    actions = '"pause", "continue", "rollback"' if kind == "update" else '"pause", "continue"'
    done = "updated" if kind == "update" else "rolled back"
    ing = "update" if kind == "update" else "roll back"
    return [
        value(
            f"{kind}-parallelism",
            "uint",
            parse_uint,
            f"Maximum number of tasks {done} simultaneously (0 to {ing} all at once)",
            default=1 if creating else None,
        ),
        value(f"{kind}-delay", "duration", parse_duration, told(f"Delay between {noun}s (ns|us|ms|s|m|h)", "0s")),
        value(
            f"{kind}-monitor",
            "duration",
            parse_duration,
            told(f"Duration after each task {kind} to monitor for failure (ns|us|ms|s|m|h)", "5s"),
        ),
        text(f"{kind}-failure-action", told(f"Action on {kind} failure ({actions})", '"pause"')),
        value(
            f"{kind}-max-failure-ratio",
            "float",
            parse_float,
            told(f"Failure rate to tolerate during {'an' if kind == 'update' else 'a'} {kind}", "0"),
        ),
        text(f"{kind}-order", told(f'{kind.capitalize()} order ("start-first", "stop-first")', '"stop-first"')),
    ]


def _general() -> list[click.Option]:
    return [
        switch("d,detach", "Exit immediately instead of waiting for the service to converge"),
        switch("q,quiet", "Suppress progress output"),
        switch("with-registry-auth", "Send registry authentication details to swarm agents"),
        switch("no-resolve-image", "Do not query the registry to resolve image digest and supported platforms"),
    ]


def _container(*, creating: bool) -> list[click.Option]:
    told = partial(_told, creating=creating)
    return [
        text("w,workdir", "Working directory inside the container"),
        text("u,user", "Username or UID (format: <name|uid>[:<group|gid>])"),
        value(
            "credential-spec",
            "credential-spec",
            parse_credential_spec,
            "Credential spec for managed service account (Windows only)",
        ),
        text("hostname", "Container hostname"),
        value("entrypoint", "command", _shell_words, "Overwrite the default ENTRYPOINT of the image"),
        _list("cap-add", summary="Add Linux capabilities"),
        _list("cap-drop", summary="Drop Linux capabilities"),
        value(
            "stop-grace-period",
            "duration",
            parse_duration,
            told("Time to wait before force killing a container (ns|us|ms|s|m|h)", "10s"),
        ),
        text("stop-signal", "Signal to stop the container"),
        text("log-driver", "Logging driver for service"),
        many("log-opt", "list", "Logging driver options", parse_pair),
        switch("t,tty", "Allocate a pseudo-TTY"),
        switch("read-only", "Mount the container's root filesystem as read only"),
        switch("init", "Use an init inside each service container to forward signals and reap processes"),
        text("isolation", "Service container isolation mode"),
    ]


def _resources() -> list[click.Option]:
    return [
        value("limit-cpu", "decimal", parse_cpus, "Limit CPUs"),
        value("limit-memory", "bytes", parse_bytes, "Limit Memory"),
        value("limit-pids", "int", parse_int, "Limit maximum number of processes (default 0 = unlimited)"),
        value("reserve-cpu", "decimal", parse_cpus, "Reserve CPUs"),
        value("reserve-memory", "bytes", parse_bytes, "Reserve Memory"),
        value("memory-swap", "bytes", parse_swap, "Swap Bytes (-1 for unlimited)"),
        value("memory-swappiness", "int", parse_int, "Tune memory swappiness (0-100), -1 to reset to default"),
        value("oom-score-adj", "int", parse_int, "Tune host's OOM preferences (-1000 to 1000)"),
    ]


def _tasks(*, creating: bool) -> list[click.Option]:
    told = partial(_told, creating=creating)
    return [
        value("replicas", "uint", parse_uint, "Number of tasks"),
        value(
            "max-concurrent",
            "uint",
            parse_uint,
            "Number of job tasks to run concurrently (default equal to --replicas)",
        ),
        value("replicas-max-per-node", "uint", parse_uint, "Maximum number of tasks per node (default 0 = unlimited)"),
        text("restart-condition", told('Restart when condition is met ("none", "on-failure", "any")', '"any"')),
        value(
            "restart-delay", "duration", parse_duration, told("Delay between restart attempts (ns|us|ms|s|m|h)", "5s")
        ),
        value("restart-max-attempts", "uint", parse_uint, "Maximum number of restarts before giving up"),
        value(
            "restart-window", "duration", parse_duration, "Window used to evaluate the restart policy (ns|us|ms|s|m|h)"
        ),
        text(
            "endpoint-mode",
            "Endpoint mode (vip or dnsrr)",
            default="vip" if creating else "",
            completes="endpoint-mode",
        ),
    ]


def _health() -> list[click.Option]:
    return [
        text("health-cmd", "Command to run to check health"),
        value("health-interval", "duration", parse_positive_duration, "Time between running the check (ms|s|m|h)"),
        value(
            "health-timeout", "duration", parse_positive_duration, "Maximum time to allow one check to run (ms|s|m|h)"
        ),
        value("health-retries", "int", parse_int, "Consecutive failures needed to report unhealthy"),
        value(
            "health-start-period",
            "duration",
            parse_positive_duration,
            "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)",
        ),
        value(
            "health-start-interval",
            "duration",
            parse_positive_duration,
            "Time between running the check during the start period (ms|s|m|h)",
        ),
        switch("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    ]


def _common(*, creating: bool) -> list[click.Option]:
    """Flags that both verbs have."""
    return [
        *_general(),
        *_container(creating=creating),
        *_resources(),
        *_tasks(creating=creating),
        *_update_flags("update", "update", creating=creating),
        *_update_flags("rollback", "task rollback", creating=creating),
        *_health(),
    ]


@dataclass(frozen=True, slots=True)
class _Listed:
    """A part of a spec that is a list. ``service create`` is given all of it by the flag ``name`` (``short`` is its
    letter); ``service update`` adds and removes items: what their flags say of themselves is ``add`` and ``remove``.
    """

    name: str
    given: str
    add: str
    remove: str
    kind: str = "list"
    parse: Callable[[str], Any] = str
    short: str = ""
    #: Items to be removed are written as those to be added, not by their names.
    removed_whole: bool = False

    def to_create(self) -> click.Option:
        return many(f"{self.short},{self.name}" if self.short else self.name, self.kind, self.given, self.parse)

    def to_update(self) -> list[click.Option]:
        kind, parse = (self.kind, self.parse) if self.removed_whole else ("list", str)
        return [
            many(f"{self.name}-add", self.kind, self.add, self.parse),
            many(f"{self.name}-rm", kind, self.remove, parse, completes=self.kind),
        ]


_LISTED: Final = (
    _Listed(
        "label",
        "Service labels",
        "Add or update a service label",
        "Remove a label by its key",
        parse=parse_label,
        short="l",
    ),
    _Listed(
        "container-label",
        "Container labels",
        "Add or update a container label",
        "Remove a container label by its key",
        parse=parse_label,
    ),
    _Listed(
        "env",
        "Set environment variables",
        "Add or update an environment variable",
        "Remove an environment variable",
        parse=parse_env,
        short="e",
    ),
    _Listed(
        "mount",
        "Attach a filesystem mount to the service",
        "Add or update a mount on a service",
        "Remove a mount by its target path",
        "mount",
        parse_mount,
    ),
    _Listed("constraint", "Placement constraints", "Add or update a placement constraint", "Remove a constraint"),
    _Listed(
        "placement-pref",
        "Add a placement preference",
        "Add a placement preference",
        "Remove a placement preference",
        "pref",
        parse_placement_preference,
        removed_whole=True,
    ),
    _Listed("network", "Network attachments", "Add a network", "Remove a network", "network", parse_network),
    _Listed(
        "secret",
        "Specify secrets to expose to the service",
        "Add or update a secret on a service",
        "Remove a secret",
        "secret",
        parse_secret,
    ),
    _Listed(
        "config",
        "Specify configurations to expose to the service",
        "Add or update a config file on a service",
        "Remove a configuration file",
        "config",
        parse_config,
    ),
    _Listed(
        "publish",
        "Publish a port as a node port",
        "Add or update a published port",
        "Remove a published port by its target port",
        "port",
        parse_service_port,
        short="p",
        removed_whole=True,
    ),
    _Listed(
        "group",
        "Set one or more supplementary user groups for the container",
        "Add an additional supplementary user group to the container",
        "Remove a previously added supplementary user group from the container",
    ),
    _Listed(
        "dns",
        "Set custom DNS servers",
        "Add or update a custom DNS server",
        "Remove a custom DNS server",
        parse=parse_ip,
    ),
    _Listed("dns-option", "Set DNS options", "Add or update a DNS option", "Remove a DNS option"),
    _Listed(
        "dns-search",
        "Set custom DNS search domains",
        "Add or update a custom DNS search domain",
        "Remove a DNS search domain",
        parse=parse_search_domain,
    ),
    _Listed(
        "host",
        "Set one or more custom host-to-IP mappings (host:ip)",
        "Add a custom host-to-IP mapping (host:ip)",
        "Remove a custom host-to-IP mapping (host:ip)",
        parse=parse_extra_host,
    ),
    _Listed("sysctl", "Sysctl options", "Add or update a Sysctl option", "Remove a Sysctl option", parse=parse_pair),
    _Listed(
        "ulimit",
        "Ulimit options",
        "Add or update a ulimit option",
        "Remove a ulimit option",
        "ulimit",
        parse_ulimit,
    ),
    _Listed("generic-resource", "User defined resources", "Add a Generic resource", "Remove a Generic resource"),
)


def create_flags() -> list[click.Option]:
    """All flags of ``service create``."""
    return [
        *_common(creating=True),
        text("name", "Service name"),
        text("mode", 'Service mode ("replicated", "global", "replicated-job", "global-job")', default="replicated"),
        _list("env-file", summary="Read in a file of environment variables"),
        *(listed.to_create() for listed in _LISTED),
    ]


def update_flags() -> list[click.Option]:
    """All flags of ``service update``."""
    return [
        *_common(creating=False),
        text("image", "Service image tag"),
        value("args", "command", _shell_words, "Service command args"),
        switch("rollback", "Rollback to previous specification"),
        switch("force", "Force update even if no changes require it"),
        *(option for listed in _LISTED for option in listed.to_update()),
    ]


def _shell_words(text_: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text_)
    except ValueError as problem:
        raise ValueError("EOF found when expecting closing quote") from problem
