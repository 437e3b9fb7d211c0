import pytest

from enxame.engine.images.reference import parse
from enxame.engine.images.registry_errors import registry_error
from enxame.errors import EnxameError, NotFound


def fatal(message):
    quoted = message.replace('"', '\\"')
    return f'time="2026-01-01T00:00:00Z" level=fatal msg="{quoted}"\n'


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (
            'Error parsing image name "docker://r.io/x:y": reading manifest y in r.io/x: manifest unknown: unknown',
            NotFound,
            "manifest for r.io/x:y not found: manifest unknown: manifest unknown",
        ),
        (
            "reading manifest y in r.io/x: unauthorized: authentication required",
            NotFound,
            (
                "pull access denied for r.io/x, repository does not exist or may require 'docker login': "
                "denied: requested access to the resource is denied"
            ),
        ),
        (
            "reading manifest y in r.io/x: name unknown: repository name not known to registry",
            NotFound,
            "repository r.io/x not found: name unknown: repository name not known to registry",
        ),
        (
            (
                'pinging container registry 127.0.0.1:1: Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: '
                "connection refused"
            ),
            EnxameError,
            'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
        ),
        ("something else", EnxameError, "something else"),
    ],
)
def test_skopeos_complaints_become_dockers(message, kind, text):
    error = registry_error(fatal(message), parse("r.io/x:y"))
    assert type(error) is kind
    assert error.message == text


def test_silence_is_told_as_such():
    assert "without a word" in registry_error("", parse("x")).message
