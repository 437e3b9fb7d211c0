"""The command and the stock docker CLI, given the same words, send the daemon the same requests."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.recording_daemon import RecordingDaemon

DOCKER = Path("/usr/bin/docker")

pytestmark = pytest.mark.skipif(not DOCKER.exists(), reason="Debian's docker.io is not installed")

SERVICE = {
    "ID": "s1",
    "Version": {"Index": 7},
    "Spec": {
        "Name": "web",
        "Labels": {"keep": "1", "old": "x"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "img:1",
                "Labels": {"cl": "1"},
                "Args": ["a"],
                "Env": ["A=1", "B=2"],
                "Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}],
                "Hosts": ["1.2.3.4 h1 h2", "5.6.7.8 h1"],
                "DNSConfig": {"Nameservers": ["9.9.9.9", "1.1.1.1"], "Search": ["a.b"]},
                "Secrets": [
                    {"File": {"Name": "s", "UID": "0", "GID": "0", "Mode": 292}, "SecretID": "i", "SecretName": "s0"}
                ],
                "Configs": [
                    {"File": {"Name": "c", "UID": "0", "GID": "0", "Mode": 292}, "ConfigID": "i", "ConfigName": "c0"}
                ],
                "Sysctls": {"a": "1", "b": "2"},
                "CapabilityAdd": ["CAP_NET_ADMIN"],
                "CapabilityDrop": ["CAP_CHOWN"],
                "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}],
                "Healthcheck": {"Test": ["NONE"]},
                "Groups": ["g1", "g2"],
                "Init": False,
            },
            "Resources": {
                "Limits": {"NanoCPUs": 1000000000},
                "Reservations": {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "a", "Value": 1}}]},
            },
            "RestartPolicy": {"Condition": "any", "Delay": 5000000000, "MaxAttempts": 0},
            "Placement": {
                "Constraints": ["node.role==worker", "a==b"],
                "Preferences": [{"Spread": {"SpreadDescriptor": "x"}}],
            },
            "Networks": [{"Target": "net1"}, {"Target": "zzz"}],
            "ForceUpdate": 3,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {
            "Parallelism": 2,
            "FailureAction": "pause",
            "Monitor": 5000000000,
            "MaxFailureRatio": 0.5,
            "Order": "stop-first",
        },
        "EndpointSpec": {
            "Mode": "vip",
            "Ports": [
                {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"},
                {"Protocol": "udp", "TargetPort": 53, "PublishedPort": 53, "PublishMode": "host"},
            ],
        },
    },
}
NODE = {"ID": "n1", "Version": {"Index": 3}, "Spec": {"Role": "worker", "Availability": "active", "Labels": {"a": "1"}}}
SWARM = {
    "ID": "c1",
    "Version": {"Index": 9},
    "JoinTokens": {"Worker": "W", "Manager": "M"},
    "Spec": {
        "Name": "default",
        "Labels": {},
        "Orchestration": {"TaskHistoryRetentionLimit": 5},
        "Raft": {
            "SnapshotInterval": 10000,
            "KeepOldSnapshots": 0,
            "LogEntriesForSlowFollowers": 500,
            "ElectionTick": 10,
            "HeartbeatTick": 1,
        },
        "Dispatcher": {"HeartbeatPeriod": 5000000000},
        "CAConfig": {"NodeCertExpiry": 7776000000000000},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": False},
    },
    "TLSInfo": {"TrustRoot": "PEM"},
    "RootRotationInProgress": False,
}
INFO = {
    "Swarm": {
        "NodeID": "n1",
        "LocalNodeState": "active",
        "ControlAvailable": True,
        "RemoteManagers": [{"NodeID": "n1", "Addr": "1.2.3.4:2377"}],
    }
}
CONTAINER = {
    "Id": "c1",
    "Name": "/c1",
    "State": {"Running": True},
    "Config": {"Tty": False},
    "HostConfig": {},
    "NetworkSettings": {"Ports": {}},
}

ANSWERS = {
    "GET /services/.*": (200, SERVICE),
    "POST /services/create": (201, {"ID": "s1"}),
    "POST /services/.*/update": (200, {}),
    "GET /services": (200, []),
    "GET /networks/.*": (200, {"Id": "net1", "Name": "ov"}),
    "GET /secrets": (200, [{"ID": "sec1", "Spec": {"Name": "s"}}, {"ID": "sec2", "Spec": {"Name": "t"}}]),
    "GET /configs": (200, [{"ID": "cfg1", "Spec": {"Name": "c"}}]),
    "POST /(secrets|configs)/create": (201, {"ID": "x"}),
    "GET /nodes/.*": (200, NODE),
    "GET /nodes": (200, []),
    "GET /tasks": (200, []),
    "GET /info": (200, INFO),
    "GET /swarm": (200, SWARM),
    "GET /swarm/unlockkey": (200, {"UnlockKey": "K"}),
    "POST /swarm/init": (200, "n1"),
    "GET /distribution/.*": (
        200,
        {
            "Descriptor": {"digest": "sha256:" + "a" * 64, "size": 1, "mediaType": "m"},
            "Platforms": [{"architecture": "amd64", "os": "linux"}],
        },
    ),
    "POST /containers/create": (201, {"Id": "c1", "Warnings": []}),
    "GET /containers/json": (200, []),
    "GET /containers/[^/]*/json": (200, CONTAINER),
    "POST /containers/[^/]*/exec": (201, {"Id": "e1"}),
    "POST /networks/create": (201, {"Id": "n", "Warning": ""}),
    "POST /volumes/create": (201, {"Name": "v", "Driver": "local"}),
    "POST /.*/prune": (200, {"SpaceReclaimed": 0}),
    "DELETE /images/.*": (200, []),
    "GET /images/json": (200, []),
    "GET /networks": (200, []),
    "GET /volumes": (200, {"Volumes": []}),
    "(POST|DELETE) .*": (200, {}),
}

LINES = Path(__file__).with_name("same_requests.txt").read_text().splitlines()
COMMANDS = [line for line in LINES if not line.startswith("#")]

#: Stock docker 20.10 fills structs with zeros where the command leaves fields out: these do not count.
_SHUFFLED = {"Binds", "Configs", "Env", "GenericResources", "Ports", "Secrets"}
_ZEROES = (None, "", 0, False, [], {})


def _normal(value: Any, path: str) -> Any:
    """Bodies of containers and networks without fields that only say "nothing"; lists sorted that docker shuffles."""
    if isinstance(value, dict):
        sparse = path.startswith(("/containers", "/networks"))
        return {
            k: sorted(v, key=str) if k in _SHUFFLED and isinstance(v, list) else _normal(v, path)
            for k, v in value.items()
            if not sparse or v not in _ZEROES
        }
    return [_normal(v, path) for v in value] if isinstance(value, list) else value


def _writes(daemon: RecordingDaemon) -> list[tuple[Any, ...]]:
    """What was asked for, in a fixed order: the stock command acts on several objects at once.

    Left out: waiting for a detached container's end, which is of no use; and the build cache, which belongs to builds.
    """
    found = [
        (r.method, r.path, r.query, _normal(r.body, r.path))
        for r in daemon.requests
        if (r.method in {"POST", "DELETE", "PUT"} or r.query)
        and not re.fullmatch(r"/containers/\w+/wait|/build/prune", r.path)
        and r.query != {"status": "true"}
    ]
    return sorted(found, key=str)


@pytest.mark.parametrize("line", COMMANDS)
def test_sends_the_same_requests(line, daemon, enxame, tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_OUTSIDE", "yes")
    daemon.answers = ANSWERS
    (tmp_path / "file").write_bytes(b"content\x00\xff")
    words = [str(tmp_path / "file") if w == "FILE" else w for w in shlex.split(line)]
    theirs = subprocess.run(
        [DOCKER, "-H", daemon.url, *words],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "DOCKER_CONFIG": str(tmp_path)},
    )
    assert theirs.returncode == 0, theirs.stderr
    expected = _writes(daemon)
    daemon.requests.clear()

    ours = enxame(*words)

    assert ours.code == 0, ours.err
    assert _writes(daemon) == expected
    assert expected or line.startswith(("service ls", "node ls", "ps ")), (
        "the stock command sent nothing to compare with"
    )
