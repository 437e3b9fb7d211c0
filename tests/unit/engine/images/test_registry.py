import json

import pytest

from enxame.engine.images.platforms import choose_platform, parse_platform
from enxame.engine.images.reference import parse
from enxame.engine.images.registry import Registry, auth_file, location, registries_conf
from enxame.errors import InvalidArgument, NotFound
from enxame.model.image import Descriptor, OCIPlatform, RegistryAuth


@pytest.mark.parametrize(
    ("domain", "insecure"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.8.7", True),
        ("localhost:1", True),
        ("[::1]:5000", True),
        ("docker.io", False),
        ("10.0.0.1:5000", False),
        ("192.0.2.7:5000", True),
        ("r.example:5000", True),
        ("r.example", False),
    ],
)
def test_loopback_and_named_registries_are_insecure(tmp_path, domain, insecure):
    registry = Registry(tmp_path, insecure=["192.0.2.0/24", "r.example:5000"])
    assert registry.is_insecure(domain) is insecure


def test_credentials_are_written_for_their_registry_alone():
    auth = RegistryAuth(username="u", password="p")
    assert json.loads(auth_file("r.io", auth)) == {"auths": {"r.io": {"auth": "dTpw"}}}
    assert json.loads(auth_file("r.io", None)) == {"auths": {}}
    with pytest.raises(InvalidArgument, match="registry tokens are not supported"):
        auth_file("r.io", RegistryAuth(registrytoken="t"))


async def test_the_file_with_the_credentials_is_private_and_goes_with_the_session(tmp_path):
    registry = Registry(tmp_path)
    async with registry.session(parse("127.0.0.1:1/x"), RegistryAuth(username="u", password="p")) as session:
        (path,) = tmp_path.glob("auth-*")
        assert path.stat().st_mode & 0o777 == 0o600
        assert session.options == ("--authfile", str(path), "--tls-verify=false")
    assert not list(tmp_path.glob("auth-*"))


def test_mirrors_stand_before_docker_io():
    text = registries_conf(["https://m.example/", "http://127.0.0.1:5001"])
    assert 'location = "m.example"\ninsecure = false' in text
    assert 'location = "127.0.0.1:5001"\ninsecure = true' in text


def test_a_digest_wins_over_a_tag():
    digest = "sha256:" + "0" * 64
    assert location(parse(f"r.io/x:1@{digest}")) == f"docker://r.io/x@{digest}"
    assert location(parse("x")) == "docker://docker.io/library/x:latest"


def entry(architecture, variant="", os="linux"):
    platform = OCIPlatform(os=os, architecture=architecture, variant=variant)
    return Descriptor(digest=f"{os}-{architecture}-{variant}", platform=platform)


def test_the_fitting_entry_of_an_index_is_chosen():
    entries = [entry("amd64", os="windows"), entry("arm", "v6"), entry("arm", "v7"), entry("amd64")]
    assert choose_platform(entries, parse_platform("linux/amd64")).digest == "linux-amd64-"
    assert choose_platform(entries, parse_platform("linux/arm/v7")).digest == "linux-arm-v7"
    assert choose_platform(entries, parse_platform("linux/arm")).digest == "linux-arm-v6"
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        choose_platform(entries, parse_platform("linux/s390x"))


@pytest.mark.parametrize("text", ["/", "linux/", "a/b/c/d", "/amd64"])
def test_platforms_that_are_none_are_refused(text):
    with pytest.raises(InvalidArgument, match="unknown operating system or architecture"):
        parse_platform(text)
