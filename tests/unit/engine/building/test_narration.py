"""buildah's words in Docker's."""

import pytest

from enxame.engine.building.narration import Narration


def tell(*pieces, steps=3, names=None):
    narration = Narration(steps, names or {})
    told = [line for piece in pieces for line in narration.hear(piece)]
    return "".join([*told, *narration.end()])


def test_steps_of_several_stages_are_counted_through():
    said = "[1/2] STEP 1/2: FROM base\n[1/2] STEP 2/2: RUN x\n[2/2] STEP 1/1: FROM scratch\n[2/2] COMMIT\n"
    assert tell(said, names={"base": "alpine"}) == (
        "Step 1/3 : FROM alpine\nStep 2/3 : RUN x\nStep 3/3 : FROM scratch\n"
    )


def test_what_the_cache_had_and_what_was_made():
    assert tell(f"--> Using cache {'ab' * 32}\n--> 0123456789a\n") == (
        " ---> Using cache\n ---> abababababab\n ---> 0123456789a\n"
    )


def test_output_comes_whole_however_it_is_cut():
    assert tell("he", "llo\nwor", "ld") == "hello\nworld\n"
    assert tell("x" * 20_000, "y\n") == "x" * 20_000 + "y\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'Error: building at STEP "RUN exit 3": while running runtime: exit status 3',
            "The command '/bin/sh -c exit 3' returned a non-zero code: 3",
        ),
        (
            (
                'Error: error building at STEP "COPY x /": checking on sources under "/c": copier: stat: "/x": '
                "no such file or directory"
            ),
            "COPY failed: file not found in build context or excluded by .dockerignore: stat x: file does not exist",
        ),
        ("Error: something else", "something else"),
    ],
)
def test_failures(said, told):
    narration = Narration(1, {})
    assert "".join(narration.hear(said + "\n")) == ""
    assert narration.failure(1).message == told
