import subprocess
from pathlib import Path

import pytest

from enxame.machine.certificates import Authority
from enxame.machine.errors import MachineError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(*(tmp_path / name for name in ("ca.pem", "ca-key.pem", "cert.pem", "key.pem")))
    made.ensure()
    return made


def openssl(*words: object) -> str:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_openssl_accepts_what_is_issued_and_for_which_purpose(authority: Authority, tmp_path: Path) -> None:
    authority.issue_server(tmp_path / "s.pem", tmp_path / "s-key.pem", ["vm1", "10.0.0.5", "localhost"])
    assert "OK" in openssl("verify", "-purpose", "sslserver", "-CAfile", authority.ca, tmp_path / "s.pem")
    assert "OK" in openssl("verify", "-purpose", "sslclient", "-CAfile", authority.ca, authority.client)
    assert "OK" not in openssl("verify", "-purpose", "sslserver", "-CAfile", authority.ca, authority.client).split()
    text = openssl("x509", "-noout", "-ext", "subjectAltName", "-in", tmp_path / "s.pem")
    assert "DNS:vm1" in text
    assert "IP Address:10.0.0.5" in text


def test_keys_are_the_users_alone(authority: Authority) -> None:
    for key in (authority.ca_key, authority.client_key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_what_is_there_stays(authority: Authority) -> None:
    before = authority.ca.read_bytes(), authority.client.read_bytes()
    authority.ensure()
    assert (authority.ca.read_bytes(), authority.client.read_bytes()) == before


def test_a_lost_ca_key_is_told(authority: Authority, tmp_path: Path) -> None:
    authority.ca_key.unlink()
    with pytest.raises(MachineError, match=r"ca-key\.pem is missing"):
        authority.issue_server(tmp_path / "s.pem", tmp_path / "s-key.pem", ["vm1"])
