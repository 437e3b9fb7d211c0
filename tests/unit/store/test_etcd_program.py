from dataclasses import replace
from pathlib import Path

import pytest

from enxame.errors import Unavailable
from enxame.store.etcd_files import TlsFiles
from enxame.store.etcd_program import EtcdSettings, check_version, command_line, environment, find

TLS = TlsFiles(Path("/c/node.crt"), Path("/c/node.key"), Path("/c/ca.crt"))
SETTINGS = EtcdSettings("n1", Path("/d/etcd"), TLS, peer_host="192.0.2.1", peer_port=2380, client_port=2379)


def options(settings=SETTINGS, **extra):
    words = command_line("/usr/bin/etcd", settings, **extra)
    return dict(word[2:].partition("=")[::2] for word in words if word.startswith("--") and "=" in word)


@pytest.mark.parametrize("version", ["3.4.22", "3.4.23", "3.5.6", "3.5.16", "3.6.0", "4.0.0"])
def test_safe_versions_are_taken(version):
    assert check_version(f"etcd Version: {version}\nGit SHA: x\n") == version


@pytest.mark.parametrize("version", ["3.3.27", "3.4.21", "3.5.0", "3.5.5"])
def test_versions_that_lost_data_are_refused_by_name(version):
    with pytest.raises(Unavailable, match=rf"etcd {version} is not safe"):
        check_version(f"etcd Version: {version}\n")


@pytest.mark.parametrize("output", ["", "bash: no", "etcd Version: x"])
def test_what_is_no_version_is_shown(output):
    with pytest.raises(Unavailable, match="does not say its version"):
        check_version(output)


def test_a_missing_program_says_what_to_install():
    with pytest.raises(Unavailable, match="install the package etcd-server"):
        find(("/nonexistent/etcd",))


def test_clients_reach_it_on_loopback_alone_and_everybody_needs_a_managers_certificate():
    found = options()
    assert found["listen-client-urls"] == "https://127.0.0.1:2379"
    assert found["initial-advertise-peer-urls"] == "https://192.0.2.1:2380"
    assert found["initial-cluster"] == "n1=https://192.0.2.1:2380"
    assert found["client-cert-auth"] == found["peer-client-cert-auth"] == "true"
    assert found["client-cert-allowed-hostname"] == found["peer-cert-allowed-hostname"] == "swarm-manager"
    assert found["trusted-ca-file"] == found["peer-trusted-ca-file"] == "/c/ca.crt"
    assert "force-new-cluster" not in found


def test_a_joining_member_is_told_the_others():
    settings = replace(
        SETTINGS, joining=True, initial_cluster={"n0": "https://192.0.2.9:2380", "n1": SETTINGS.peer_url}
    )
    found = options(settings, force_new_cluster=True)
    assert found["initial-cluster-state"] == "existing"
    assert found["initial-cluster"] == "n0=https://192.0.2.9:2380,n1=https://192.0.2.1:2380"
    assert found["force-new-cluster"] == "true"


def test_ipv6_addresses_are_bracketed():
    assert replace(SETTINGS, peer_host="2001:db8::1").peer_url == "https://[2001:db8::1]:2380"


def test_the_election_timeout_is_long_enough_for_etcd():
    assert SETTINGS.election_timeout >= 5 * SETTINGS.heartbeat


def test_the_child_sees_no_options_by_environment(monkeypatch):
    monkeypatch.setenv("ETCD_NAME", "wrong")
    assert environment("x86_64") == {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert environment("aarch64")["ETCD_UNSUPPORTED_ARCH"] == "arm64"
