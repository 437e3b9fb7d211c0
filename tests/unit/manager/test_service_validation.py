# ruff: noqa: E501 - a table: one rule a line
import pytest
from msgspec.structs import replace

from enxame.errors import EnxameError
from enxame.manager.service_validation import validate
from enxame.model.base import convert
from enxame.model.service import ServiceSpec

INVALID = "rpc error: code = InvalidArgument desc = "


def spec(**changes):
    """A good spec as the API's JSON, with dotted keys replaced."""
    raw = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx:alpine"}}}
    for path, value in changes.items():
        here = raw
        *parents, last = path.split("__")
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = value
    return convert(raw, ServiceSpec)


def container(**fields):
    return spec(**{f"TaskTemplate__ContainerSpec__{name}": value for name, value in fields.items()})


def template(**fields):
    return spec(**{f"TaskTemplate__{name}": value for name, value in fields.items()})


def ports(*ports, mode="vip"):
    return spec(EndpointSpec={"Mode": mode, "Ports": list(ports)})


def secret(**fields):
    return {"SecretID": "1", "SecretName": "s", "File": {"Name": "f"}, **fields}


def config(**fields):
    return {"ConfigID": "1", "ConfigName": "c", "File": {"Name": "f"}, **fields}


@pytest.mark.parametrize(
    ("given", "message", "status"),
    [
        (spec(Name=""), INVALID + "meta: name must be provided", 400),
        (spec(Name="-web"), INVALID + "name must be valid as a DNS name component", 400),
        (spec(Name="we b"), INVALID + "name must be valid as a DNS name component", 400),
        (spec(Name="web.1"), INVALID + "name must be valid as a DNS name component", 400),
        (spec(Name="wéb"), INVALID + "name must be valid as a DNS name component", 400),
        (spec(Name="web\n"), INVALID + "name must be valid as a DNS name component", 400),
        (spec(Name="a" * 64), INVALID + "name must be 63 characters or fewer", 400),
        (template(Resources={"Limits": {"MemoryBytes": 1048576}}), INVALID + "invalid memory value 1048576: Must be at least 4MiB", 400),
        (template(Resources={"Reservations": {"NanoCPUs": 100000}}), INVALID + "invalid cpu value 0.0001: Must be at least 0.001", 400),
        (template(Resources={"Limits": {"NanoCPUs": -1}}), INVALID + "invalid cpu value -1e-09: Must be at least 0.001", 400),
        (template(Placement={"Constraints": ["node.role=manager"]}), "rpc error: code = Unknown desc = constraint expected one operator from ==, !=", 500),
        (template(RestartPolicy={"Condition": "always"}), 'invalid RestartCondition: "always"', 400),
        (template(RestartPolicy={"Delay": -1}), INVALID + "TaskSpec: restart-delay cannot be negative", 400),
        (template(RestartPolicy={"Window": -1}), INVALID + "TaskSpec: restart-window cannot be negative", 400),
        (template(Runtime="plugin"), "unsupported runtime", 400),
        (template(Runtime="attachment"), 'invalid task spec: spec type "attachment" not supported', 400),
        (spec(TaskTemplate={}), "mismatched Runtime and *Spec fields", 400),
        (container(Image=""), INVALID + "ContainerSpec: image reference must be provided", 400),
        (container(Image="UPPER"), INVALID + 'ContainerSpec: "UPPER" is not a valid repository/tag', 400),
        (container(Mounts=[{"Target": "/a"}, {"Target": "/a"}]), INVALID + "ContainerSpec: duplicate mount point: /a", 400),
        (container(Mounts=[{"Target": "/a", "Type": "nfs"}]), 'invalid MountType: "nfs"', 400),
        (container(Mounts=[{"Target": "/a", "BindOptions": {"Propagation": "x"}}]), 'invalid MountPropagation: "x"', 400),
        (container(Hostname="{{.Nope}}"), INVALID + "expanding hostname failed: template: ", 400),
        (container(Env=["A={{.Node"]), INVALID + "expanding env failed: template: ", 400),
        (container(Healthcheck={"Interval": 1000}), INVALID + "ContainerSpec: Interval in HealthConfig cannot be less than 1ms", 400),
        (container(Healthcheck={"Retries": -1}), INVALID + "ContainerSpec: Retries in HealthConfig cannot be negative", 400),
        (container(Secrets=[secret(SecretID="")]), INVALID + "malformed secret reference", 400),
        (container(Secrets=[secret(File=None)]), INVALID + "malformed secret reference, no target provided", 400),
        (container(Secrets=[secret(File={"Name": ""})]), INVALID + "malformed file secret reference, invalid target file name provided", 400),
        (container(Secrets=[secret(), secret(SecretName="t")]), INVALID + "secret references 's' and 't' have a conflicting target: 'f'", 400),
        (container(Configs=[config(), config(ConfigName="d")]), INVALID + "config references 'c' and 'd' have a conflicting target: 'f'", 400),
        (container(Configs=[config(File=None)]), "invalid Config: either File or Runtime should be set", 400),
        (container(Configs=[config(Runtime={})]), "invalid Config: cannot specify both File and Runtime", 400),
        (container(Privileges={"CredentialSpec": {}}), 'invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec', 400),
        (spec(UpdateConfig={"MaxFailureRatio": 1.5}), INVALID + "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1", 400),
        (spec(RollbackConfig={"MaxFailureRatio": -0.1}), INVALID + "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1", 400),
        (spec(UpdateConfig={"Delay": -1}), INVALID + "TaskSpec: update-delay cannot be negative", 400),
        (spec(UpdateConfig={"Monitor": -1}), INVALID + "TaskSpec: update-monitor cannot be negative", 400),
        (spec(UpdateConfig={"FailureAction": "explode"}), "unrecognized update failure action explode", 400),
        (spec(UpdateConfig={"Order": "any"}), "unrecognized update order any", 400),
        (spec(Mode={"Replicated": {}, "Global": {}}), "must specify only one service mode", 400),
        (spec(Mode={"Replicated": {"Replicas": -1}}), INVALID + "Number of replicas must be non-negative", 400),
        (spec(Mode={"ReplicatedJob": {}}, UpdateConfig={}), INVALID + "update and rollback configuration is not supported for jobs", 400),
        (spec(EndpointSpec={"Mode": "magic"}), 'invalid resolution mode: "magic"', 400),
        (ports({"TargetPort": 80, "PublishedPort": 80}, mode="dnsrr"), INVALID + "EndpointSpec: port published with ingress mode can't be used with dnsrr mode", 400),
        (ports({"TargetPort": 80, "PublishedPort": 80}, {"TargetPort": 81, "PublishedPort": 80, "Protocol": "tcp"}), INVALID + "EndpointSpec: duplicate published ports provided", 400),
        (ports({"TargetPort": 80, "PublishedPort": 70000}), INVALID + "EndpointSpec: invalid port 70000: must be between 1 and 65535", 400),
        (ports({"TargetPort": 80, "Protocol": "icmp"}), 'invalid protocol: "icmp"', 400),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_in_swarms_words(given, message, status):
    with pytest.raises(EnxameError) as caught:
        validate(given)
    assert (
        caught.value.message.startswith(message) if message.endswith("template: ") else caught.value.message == message
    )
    assert caught.value.status == status


@pytest.mark.parametrize(
    "given",
    [
        spec(),
        spec(Name="a"),
        spec(Name="ns_web-1"),
        spec(Name="a" * 63),
        container(Image="registry.example:5000/team/app:1@sha256:" + "a" * 64),
        container(Hostname="{{.Node.Hostname}}-{{.Task.Slot}}"),
        container(Mounts=[{"Target": "/a", "Type": "bind"}, {"Target": "/b"}]),
        template(Placement={"Constraints": ["node.role==manager", "node.labels.x != y"]}),
        template(RestartPolicy={"Condition": "on-failure", "Delay": 0}),
        ports({"TargetPort": 80, "PublishedPort": 80, "PublishMode": "host"}, mode="dnsrr"),
        ports({"TargetPort": 80, "PublishedPort": 80}, {"TargetPort": 80, "PublishedPort": 80, "Protocol": "udp"}),
        ports({"TargetPort": 80}, {"TargetPort": 80}),
        spec(Mode={"Global": {}}),
        spec(Mode={"Replicated": {"Replicas": 0}}),
        spec(Mode={"ReplicatedJob": {"TotalCompletions": 3}}),
        container(Secrets=[secret(), secret(SecretName="t", File={"Name": "g"})]),
    ],
)
def test_what_keeps_to_the_rules_passes(given):
    validate(given)


def test_a_long_name_that_does_not_match_is_refused_quickly():
    with pytest.raises(EnxameError):
        validate(replace(spec(), name="a" * 10_000 + "!"))
