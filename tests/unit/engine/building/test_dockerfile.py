"""What the daemon reads in a Dockerfile."""

import pytest

from enxame.engine.building.dockerfile import BaseImage, parse_dockerfile
from enxame.errors import InvalidArgument


def read(text, target="", **arguments):
    return parse_dockerfile(text, arguments=arguments, target=target)


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM a", ["a"]),
        ("from a:1 as x\nFROM x\nFROM b", ["a:1", "b"]),
        ("FROM scratch", []),
        ("ARG V=1\nFROM a:$V", ["a:1"]),
        ("ARG V\nFROM a:${V:-2}", ["a:2"]),
        ("ARG V=1\nFROM a${V:+-slim}", ["a-slim"]),
        ("FROM a\nCOPY --chown=1:1 --from=b:2 /x /y", ["a", "b:2"]),
        ("FROM a AS one\nFROM b\nCOPY --from=one /x /y\nCOPY --from=0 /x /y", ["a", "b"]),
        ("FROM a\nRUN --mount=type=bind,from=tools,target=/t x", ["a", "tools"]),
        ("FROM a\nRUN echo --from=b", ["a"]),
        ("# escape=`\nFROM a`\n  AS x\nRUN dir c:\\\nFROM x", ["a"]),
        ("FROM a\nRUN x \\\n# comment\n\n  FROM y", ["a"]),
    ],
)
def test_images_that_a_build_needs(text, images):
    assert [one.reference for one in read(text).images] == images


def test_images_behind_the_target_are_not_needed():
    found = read("FROM a AS one\nFROM b AS two\nRUN x", target="ONE")
    assert [one.reference for one in found.images] == ["a"]
    assert found.steps == 1
    assert [one.reference for one in read("FROM a\nFROM b", target="0").images] == ["a"]


def test_the_clients_arguments_come_before_the_defaults():
    assert read("ARG V=1\nARG W=x$V\nFROM a:$W", V="2").images == [BaseImage("a:x2")]


def test_a_stage_may_want_another_platform():
    assert read("FROM --platform=linux/arm64 a AS x").images == [BaseImage("a", "linux/arm64")]


def test_images_are_renamed_and_all_else_stays_as_it_is():
    text = (
        "# syntax=x\nARG V=1\nFROM --platform=linux/amd64 a:$V AS one\nRUN x \\\n   y\nFROM one\nCOPY --from=b /x /y\n"
    )
    names = {"a:1": "A", "b": "B"}
    renamed = read(text).renamed(lambda image: names[image.reference])
    assert renamed == ("# syntax=x\nARG V=1\nFROM A AS one\nRUN x \\\n   y\nFROM one\nCOPY --from=B /x /y\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n# nothing\n", "cannot be empty"),
        ("FROM a\nFOO x", "dockerfile parse error line 2: unknown instruction: FOO"),
        ("RUN x", "no build stage in current context"),
        ("FROM a b c d", "FROM requires either one or three arguments"),
        ("ARG X", "no FROM"),
        ("# escape=x\nFROM a", "invalid ESCAPE"),
    ],
)
def test_what_is_no_dockerfile_is_refused(text, told):
    with pytest.raises(InvalidArgument, match=told):
        read(text)
