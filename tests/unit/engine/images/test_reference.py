import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.engine.images.reference import Reference, is_digest, parse, parse_repository
from enxame.errors import InvalidArgument

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
        ("enxame/sample", "docker.io/enxame/sample", "enxame/sample"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("127.0.0.1:5000/a/b_c-d.e", "127.0.0.1:5000/a/b_c-d.e", "127.0.0.1:5000/a/b_c-d.e"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("a.b/c/d:T_1.x", "a.b/c/d:T_1.x", "a.b/c/d:T_1.x"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}", f"nginx:1@{DIGEST}"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ],
)
def test_names_are_normalised_and_shortened_as_docker_does(text, full, familiar):
    reference = parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("nginx:", "invalid reference format"),
        ("nginx:-x", "invalid reference format"),
        ("nginx:" + "a" * 129, "invalid reference format"),
        ("/nginx", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a__b___c", "invalid reference format"),
        ("nginx@sha256:abc", "invalid reference format"),
        ("nginx\n", "invalid reference format"),
        ("../etc", "invalid reference format"),
        ("Nginx", "invalid reference format: repository name must be lowercase"),
        ("foo/Bar:x", "invalid reference format: repository name must be lowercase"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        ("ab" * 32, f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings"),
        ("x@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("x@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_bad_names_are_refused_in_dockers_words(text, message):
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert caught.value.message == message


def test_only_references_without_tag_and_digest_get_the_default_tag():
    assert parse("x").tagged().tag == "latest"
    assert parse("x:1").tagged().tag == "1"
    assert parse(f"x@{DIGEST}").tagged().tag == ""


def test_a_name_to_give_is_no_digest_and_its_tag_follows_the_rule():
    assert str(parse_repository("x", "1")) == "docker.io/library/x:1"
    assert str(parse_repository("x:2")) == "docker.io/library/x:2"
    with pytest.raises(InvalidArgument, match="digest reference"):
        parse_repository(f"x@{DIGEST}")
    with pytest.raises(InvalidArgument, match="invalid tag format"):
        parse_repository("x", "a b")


def test_only_whole_sha256_digests_are_digests():
    assert is_digest(DIGEST)
    assert not is_digest(DIGEST[:-1])
    assert not is_digest(DIGEST + "\n")


part = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
domain = st.one_of(
    st.just("docker.io"),
    st.just("localhost"),
    st.from_regex(r"[a-z0-9]{1,8}\.[a-z]{2,3}(:[0-9]{1,5})?", fullmatch=True),
)
tag = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)
digest = st.one_of(st.just(""), st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True))


@given(domain, st.lists(part, min_size=1, max_size=3), st.one_of(st.just(""), tag), digest)
def test_whatever_is_a_reference_survives_writing_and_reading(host, parts, label, checksum):
    parts = ["library", *parts] if host == "docker.io" and len(parts) == 1 else parts
    reference = Reference(host, "/".join(parts), label, checksum)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@given(st.text(max_size=60))
def test_any_text_is_either_a_reference_that_survives_or_invalid(text):
    try:
        reference = parse(text)
    except InvalidArgument:
        return
    assert parse(str(reference)) == reference
    assert ".." not in reference.path.split("/")
