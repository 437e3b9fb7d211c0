import json
import shutil
import subprocess

import pytest

from enxame.cli.context_store import ContextStore
from enxame.cli.errors import CliError
from enxame.cli.main import run
from enxame.cli.session import Session


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("ENXAME_CONFIG", str(tmp_path / "enxame"))
    for name in ("ENXAME_HOST", "DOCKER_HOST", "ENXAME_CONTEXT", "DOCKER_CONTEXT", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def enxame(capsys):
    def call(*words, code=0):
        assert run(["context", *words]) == code
        said = capsys.readouterr()
        return said.out.rstrip("\n") if code == 0 else said.err.strip()

    return call


def keys(directory):
    for name in ("ca", "cert", "key"):
        (directory / f"{name}.pem").write_text(f"PEM of {name}")
    return ",".join(f"{name}={directory / name}.pem" for name in ("ca", "cert", "key"))


def test_a_context_is_made_used_shown_changed_and_removed(enxame, home):
    assert enxame("create", "demo", "--description", "mine", "--docker", f"host=tcp://h:2376,{keys(home)}") == "demo"
    assert enxame("show") == "default"
    assert enxame("use", "demo") == "demo"
    assert enxame("show") == "demo"
    endpoint = Session().endpoint
    assert (endpoint.address, endpoint.port) == ("h", 2376)
    with open(endpoint.tls.ca, encoding="ascii") as file:
        assert file.read() == "PEM of ca"
    assert [line.split()[:2] for line in enxame("ls").splitlines()[1:]] == [["default", "The"], ["demo", "*"]]
    enxame("update", "demo", "--description", "other")
    (found,) = json.loads(enxame("inspect"))
    assert found["Metadata"] == {"Description": "other"}
    assert found["Endpoints"] == {"docker": {"Host": "tcp://h:2376", "SkipTLSVerify": False}}
    assert found["TLSMaterial"] == {"docker": ["ca.pem", "cert.pem", "key.pem"]}
    assert "is in use" in enxame("rm", "demo", code=1)
    assert enxame("rm", "-f", "demo") == "demo"
    assert enxame("show") == "default"
    assert not list((home / "docker").rglob("*.pem"))


def test_keys_are_for_their_owner_alone(enxame, home):
    enxame("create", "demo", "--docker", f"host=tcp://h:2376,{keys(home)}")
    for path in (home / "docker").rglob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_named_on_the_spot_goes_before_the_current_context(enxame, home, monkeypatch):
    enxame("create", "one", "--docker", "host=tcp://one:1")
    enxame("create", "two", "--docker", "host=tcp://two:2")
    enxame("use", "one")
    assert Session().endpoint.address == "one"
    monkeypatch.setenv("DOCKER_CONTEXT", "two")
    assert Session().endpoint.address == "two"
    monkeypatch.setenv("DOCKER_HOST", "unix:///d")
    assert Session().endpoint.address == "/d"
    assert enxame("show") == "default"
    assert Session(context="one").endpoint.address == "one"
    assert Session(context="default").endpoint.address == "/run/enxame/enxame.sock"
    assert Session("unix:///h").endpoint.address == "/h"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create", "default"), '"default" is a reserved context name'),
        (("create", "x!"), "names are validated against regexp"),
        (("create", "there"), 'context "there" already exists'),
        (("create", "n1", "--docker", "host=foo,bar=1"), "unrecognized config key: bar"),
        (("create", "n2", "--docker", "host=tcp://h:1,ca=/none"), "open /none: no such file"),
        (("create", "n3", "--docker", "host=ssh://h"), "unable to parse docker host"),
        (("use", "none"), 'context "none": context not found'),
        (("rm", "none"), 'context "none" does not exist'),
        (("rm", "default"), 'context "default" cannot be removed'),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(enxame, words, why):
    enxame("create", "there")
    assert why in enxame(*words, code=1)
    assert ContextStore().names() == ["default", "there"]


def test_a_context_that_is_gone_is_told(enxame, monkeypatch):
    monkeypatch.setenv("ENXAME_CONTEXT", "gone")
    with pytest.raises(CliError, match='unable to resolve docker endpoint: context "gone": context not found'):
        _ = Session().endpoint


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs the docker command")
def test_the_docker_command_knows_the_same_contexts_and_keeps_its_own_current_one(enxame):
    def docker(*words):
        return subprocess.run(["docker", "context", *words], capture_output=True, text=True, check=True).stdout.strip()

    enxame("create", "ours", "--docker", "host=tcp://h:2376")
    docker("create", "theirs", "--docker", "host=tcp://t:2375")
    assert docker("inspect", "ours", "--format", "{{.Endpoints.docker.Host}}") == "tcp://h:2376"
    assert enxame("inspect", "theirs", "--format", "{{.Endpoints.docker.Host}}") == "tcp://t:2375"
    enxame("use", "ours")
    assert docker("show") == "default"
    docker("use", "theirs")
    assert enxame("show") == "ours"
