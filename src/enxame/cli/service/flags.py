"""The flags of ``service create`` and ``service update``."""

from functools import partial

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


def _update_flags(kind: str, noun: str, *, creating: bool) -> list[click.Option]:
    """The six flags of an update's (or a rollback's) conduct."""

    def told(what: str, default: str) -> str:
        return f"{what} (default {default})" if creating else what

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


def common_flags(*, creating: bool) -> list[click.Option]:
    """Flags that both verbs have."""

    def told(what: str, default: str) -> str:
        return f"{what} (default {default})" if creating else what

    return [
        switch("d,detach", "Exit immediately instead of waiting for the service to converge"),
        switch("q,quiet", "Suppress progress output"),
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
        value("limit-cpu", "decimal", parse_cpus, "Limit CPUs"),
        value("limit-memory", "bytes", parse_bytes, "Limit Memory"),
        value("limit-pids", "int", parse_int, "Limit maximum number of processes (default 0 = unlimited)"),
        value("reserve-cpu", "decimal", parse_cpus, "Reserve CPUs"),
        value("reserve-memory", "bytes", parse_bytes, "Reserve Memory"),
        value("memory-swap", "bytes", parse_swap, "Swap Bytes (-1 for unlimited)"),
        value("memory-swappiness", "int", parse_int, "Tune memory swappiness (0-100), -1 to reset to default"),
        value("oom-score-adj", "int", parse_int, "Tune host's OOM preferences (-1000 to 1000)"),
        value(
            "stop-grace-period",
            "duration",
            parse_duration,
            told("Time to wait before force killing a container (ns|us|ms|s|m|h)", "10s"),
        ),
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
        *_update_flags("update", "update", creating=creating),
        *_update_flags("rollback", "task rollback", creating=creating),
        text("endpoint-mode", "Endpoint mode (vip or dnsrr)", default="vip" if creating else ""),
        switch("with-registry-auth", "Send registry authentication details to swarm agents"),
        switch("no-resolve-image", "Do not query the registry to resolve image digest and supported platforms"),
        text("log-driver", "Logging driver for service"),
        many("log-opt", "list", "Logging driver options", parse_pair),
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
        switch("t,tty", "Allocate a pseudo-TTY"),
        switch("read-only", "Mount the container's root filesystem as read only"),
        switch("init", "Use an init inside each service container to forward signals and reap processes"),
        text("stop-signal", "Signal to stop the container"),
        text("isolation", "Service container isolation mode"),
    ]


def create_flags() -> list[click.Option]:
    """All flags of ``service create``."""
    return [
        *common_flags(creating=True),
        text("name", "Service name"),
        text("mode", 'Service mode ("replicated", "global", "replicated-job", "global-job")', default="replicated"),
        many("l,label", "list", "Service labels", parse_label),
        many("container-label", "list", "Container labels", parse_label),
        many("e,env", "list", "Set environment variables", parse_env),
        _list("env-file", summary="Read in a file of environment variables"),
        many("mount", "mount", "Attach a filesystem mount to the service", parse_mount),
        _list("constraint", summary="Placement constraints"),
        many("placement-pref", "pref", "Add a placement preference", parse_placement_preference),
        many("network", "network", "Network attachments", parse_network),
        many("secret", "secret", "Specify secrets to expose to the service", parse_secret),
        many("config", "config", "Specify configurations to expose to the service", parse_config),
        many("p,publish", "port", "Publish a port as a node port", parse_service_port),
        _list("group", summary="Set one or more supplementary user groups for the container"),
        many("dns", "list", "Set custom DNS servers", parse_ip),
        _list("dns-option", summary="Set DNS options"),
        many("dns-search", "list", "Set custom DNS search domains", parse_search_domain),
        many("host", "list", "Set one or more custom host-to-IP mappings (host:ip)", parse_extra_host),
        many("sysctl", "list", "Sysctl options", parse_pair),
        many("ulimit", "ulimit", "Ulimit options", parse_ulimit),
        _list("generic-resource", summary="User defined resources"),
    ]


def update_flags() -> list[click.Option]:
    """All flags of ``service update``."""
    return [
        *common_flags(creating=False),
        text("image", "Service image tag"),
        value("args", "command", _shell_words, "Service command args"),
        switch("rollback", "Rollback to previous specification"),
        switch("force", "Force update even if no changes require it"),
        many("label-add", "list", "Add or update a service label", parse_label),
        _list("label-rm", summary="Remove a label by its key"),
        many("container-label-add", "list", "Add or update a container label", parse_label),
        _list("container-label-rm", summary="Remove a container label by its key"),
        many("env-add", "list", "Add or update an environment variable", parse_env),
        _list("env-rm", summary="Remove an environment variable"),
        many("mount-add", "mount", "Add or update a mount on a service", parse_mount),
        _list("mount-rm", summary="Remove a mount by its target path"),
        _list("constraint-add", summary="Add or update a placement constraint"),
        _list("constraint-rm", summary="Remove a constraint"),
        many("placement-pref-add", "pref", "Add a placement preference", parse_placement_preference),
        many("placement-pref-rm", "pref", "Remove a placement preference", parse_placement_preference),
        many("network-add", "network", "Add a network", parse_network),
        _list("network-rm", summary="Remove a network"),
        many("secret-add", "secret", "Add or update a secret on a service", parse_secret),
        _list("secret-rm", summary="Remove a secret"),
        many("config-add", "config", "Add or update a config file on a service", parse_config),
        _list("config-rm", summary="Remove a configuration file"),
        many("publish-add", "port", "Add or update a published port", parse_service_port),
        many("publish-rm", "port", "Remove a published port by its target port", parse_service_port),
        _list("group-add", summary="Add an additional supplementary user group to the container"),
        _list("group-rm", summary="Remove a previously added supplementary user group from the container"),
        many("dns-add", "list", "Add or update a custom DNS server", parse_ip),
        _list("dns-rm", summary="Remove a custom DNS server"),
        _list("dns-option-add", summary="Add or update a DNS option"),
        _list("dns-option-rm", summary="Remove a DNS option"),
        many("dns-search-add", "list", "Add or update a custom DNS search domain", parse_search_domain),
        _list("dns-search-rm", summary="Remove a DNS search domain"),
        many("host-add", "list", "Add a custom host-to-IP mapping (host:ip)", parse_extra_host),
        _list("host-rm", summary="Remove a custom host-to-IP mapping (host:ip)"),
        many("sysctl-add", "list", "Add or update a Sysctl option", parse_pair),
        _list("sysctl-rm", summary="Remove a Sysctl option"),
        many("ulimit-add", "ulimit", "Add or update a ulimit option", parse_ulimit),
        _list("ulimit-rm", summary="Remove a ulimit option"),
        _list("generic-resource-add", summary="Add a Generic resource"),
        _list("generic-resource-rm", summary="Remove a Generic resource"),
    ]


def _shell_words(text_: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text_)
    except ValueError as problem:
        raise ValueError("EOF found when expecting closing quote") from problem
