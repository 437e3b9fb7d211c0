import pytest

from enxame.engine.images.reference import parse
from enxame.engine.images.removal import ImageUser, plan_removal
from enxame.errors import Conflict

ID = "sha256:" + "1234567890ab" + "0" * 52
DIGEST = "sha256:" + "cd" * 32
RUNNING = ImageUser("c" * 64, running=True)
STOPPED = ImageUser("d" * 64, running=False)


def plan(ref, named, names, users=(), force=False):
    return plan_removal(ref, ID, parse(named) if named else None, [parse(name) for name in names], users, force=force)


def texts(removal):
    return [name.familiar for name in removal.untag], removal.delete


def test_one_of_several_names_is_only_taken_away():
    assert texts(plan("a:1", "a:1", ["a:1", "b:1"])) == (["a:1"], False)


def test_the_last_name_takes_the_image_along():
    assert texts(plan("a:1", "a:1", ["a:1"])) == (["a:1"], True)


def test_the_last_tag_of_a_repository_takes_its_digests_along():
    assert texts(plan("a:1", "a:1", ["a:1", f"a@{DIGEST}"])) == (["a:1", f"a@{DIGEST}"], True)
    assert texts(plan("a:1", "a:1", ["a:1", f"a@{DIGEST}", "b:1"])) == (["a:1", f"a@{DIGEST}"], False)
    assert texts(plan("a:1", "a:1", ["a:1", "a:2", f"a@{DIGEST}"])) == (["a:1"], False)


def test_an_id_takes_all_names_of_one_repository_but_not_of_several():
    assert texts(plan("1234", None, ["a:1", f"a@{DIGEST}"])) == (["a:1", f"a@{DIGEST}"], True)
    for names in (["a:1", "b:1"], ["a:1", "a:2"]):
        with pytest.raises(Conflict) as caught:
            plan("1234", None, names)
        assert caught.value.message == (
            "conflict: unable to delete 1234567890ab (must be forced) - image is referenced in multiple repositories"
        )
        assert texts(plan("1234", None, names, force=True)) == (names, True)


def test_a_container_keeps_the_last_name_unless_forced():
    with pytest.raises(Conflict) as caught:
        plan("a", "a:latest", ["a:latest"], [STOPPED])
    assert caught.value.message == (
        'conflict: unable to remove repository reference "a" (must force) - container dddddddddddd is using its '
        "referenced image 1234567890ab"
    )
    assert texts(plan("a", "a:latest", ["a:latest", "b:1"], [STOPPED])) == (["a:latest"], False)
    assert texts(plan("a", "a:latest", ["a:latest"], [STOPPED], force=True)) == (["a:latest"], True)
    assert texts(plan("a", "a:latest", ["a:latest"], [RUNNING], force=True)) == (["a:latest"], False)


@pytest.mark.parametrize("force", [False, True])
def test_a_running_container_keeps_an_image_that_is_named_by_id(force):
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image is being used by running container cccccccccccc"):
        plan("1234", None, ["a:1"], [STOPPED, RUNNING], force=force)


def test_a_stopped_container_keeps_it_unless_forced():
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container dddddddddddd"):
        plan("1234", None, [], [STOPPED])
    assert texts(plan("1234", None, [], [STOPPED], force=True)) == ([], True)
