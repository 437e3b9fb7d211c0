"""Requests that meet no leader, or one that is lost in the middle of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from enxame.api import forwarding
from enxame.api.repeating import IN_DOUBT, NOT_DONE
from enxame.errors import EnxameError
from enxame.store.backend import CommitInDoubt, NoLeader, NotLeading
from enxame.testing.promises import allowed
from tests.unit.api.two_managers import NO_LEADER, WEB, Lab, two_managers


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """Manager ``a`` leads; clients ask ``b``."""
    monkeypatch.setattr(forwarding, "PATIENCE", 1.0)
    async with two_managers(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/services"), ("POST", "/services/create"), ("GET", "/swarm"), ("DELETE", "/secrets/x")],
)
async def test_without_a_leader_the_answer_is_swarms(lab: Lab, method: str, path: str) -> None:
    lab.lead(None)
    began = asyncio.get_running_loop().time()
    body = WEB if method == "POST" else None
    assert await lab.second.ask(method, path, body) == (500, {"message": NO_LEADER})
    assert 0.9 < asyncio.get_running_loop().time() - began < allowed(1.5)


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_a_request_waits_for_an_election(lab: Lab, winner: str) -> None:
    lab.lead(None)
    asked = asyncio.ensure_future(lab.second.ask("POST", "/services/create", WEB))
    await asyncio.sleep(0.1)
    assert not asked.done()
    lab.lead(getattr(lab, winner))
    assert (await asked)[0] == 201


async def test_a_manager_that_no_longer_leads_sends_the_request_on_its_way(lab: Lab) -> None:
    real = lab.first.leadership
    asked_in_vain = 0

    class NotThere:
        node_id = real.node_id

        @property
        def is_leader(self) -> bool:
            nonlocal asked_in_vain
            asked_in_vain += 1
            if asked_in_vain == 3:
                lab.lead(lab.second)
            return False

    lab.first.leadership = NotThere()  # type: ignore[assignment]
    assert (await lab.second.ask("POST", "/services/create", WEB))[0] == 201
    assert asked_in_vain == 3


class Lossy:
    """The leader's store: what happens to its next commit, and what becomes of the leader then."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._update = lab.store.update
        self.commits = True
        self.raises: Callable[[], Exception] | None = None
        self.then: Callable[[], Any] = lambda: None
        self.answered = True

    def install(self) -> None:
        self._lab.store.update = self.update

    async def update(self, change: Any) -> Any:
        self._lab.store.update = self._update
        result = await self._update(change) if self.commits else None
        outcome = self.then()
        if asyncio.iscoroutine(outcome):
            await outcome
        if self.raises is not None:
            raise self.raises()
        if not self.answered:
            await asyncio.Event().wait()
        return result


def lose_leader(lab: Lab, *, commits: bool, how: str) -> None:
    """With the next write the leader is lost: its link breaks, it hangs while another one leads, or it cannot tell."""
    lossy = Lossy(lab)
    lossy.commits, lossy.answered = commits, False

    def gone() -> None:
        lab.lead(lab.second)
        if how == "cut":
            lab.first.port.cut(lab.second.node_id)
        if how == "doubt":
            lossy.raises = CommitInDoubt

    lossy.then = gone
    lossy.install()


async def _version(lab: Lab, path: str) -> int:
    return int((await lab.second.ask("GET", path))[1]["Version"]["Index"])


LOSSES = pytest.mark.parametrize("how", ["cut", "silent", "doubt"])
DONE_OR_NOT = pytest.mark.parametrize("commits", [True, False], ids=["it was done", "it was not done"])
DATA = base64.b64encode(b"data").decode()


@LOSSES
@DONE_OR_NOT
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/services/create", WEB),
        ("/services/create", {**WEB, "Name": ""}),
        ("/secrets/create", {"Name": "s", "Data": DATA}),
        ("/configs/create", {"Name": "c", "Data": DATA}),
        ("/networks/create", {"Name": "over", "Driver": "overlay"}),
    ],
)
async def test_what_is_made_while_the_leader_is_lost_is_there_once(
    lab: Lab, how: str, commits: bool, path: str, body: Any
) -> None:
    lose_leader(lab, commits=commits, how=how)
    status, made = await lab.second.ask("POST", path, body)
    assert status == 201
    collection = path.split("/")[1]
    _, listed = await lab.second.ask("GET", f"/{collection}")
    ids = [one.get("ID") or one.get("Id") for one in listed]
    assert ids.count(made.get("ID") or made.get("Id")) == 1
    assert len([one for one in listed if one.get("Name") not in ("bridge", "host", "ingress")]) == 1


@LOSSES
@DONE_OR_NOT
async def test_an_update_while_the_leader_is_lost_happens_once_and_is_never_called_failed(
    lab: Lab, how: str, commits: bool
) -> None:
    await lab.second.ask("POST", "/services/create", WEB)
    path = f"/services/web/update?version={await _version(lab, '/services/web')}"
    lose_leader(lab, commits=commits, how=how)
    status, answer = await lab.second.ask("POST", path, {**WEB, "Labels": {"a": "b"}})
    assert (status, answer.get("message")) == ((500, IN_DOUBT) if commits else (200, None))
    _, seen = await lab.second.ask("GET", "/services/web")
    assert seen["Spec"]["Labels"] == {"a": "b"}
    assert seen["PreviousSpec"]["Labels"] == {}


@LOSSES
@DONE_OR_NOT
async def test_a_removal_while_the_leader_is_lost_is_looked_after_not_repeated(
    lab: Lab, how: str, commits: bool
) -> None:
    await lab.second.ask("POST", "/secrets/create", {"Name": "s", "Data": DATA})
    lose_leader(lab, commits=commits, how=how)
    status, answer = await lab.second.ask("DELETE", "/secrets/s")
    assert (status, answer and answer["message"]) == ((204, None) if commits else (503, NOT_DONE))
    assert (await lab.second.ask("GET", "/secrets/s"))[0] == (404 if commits else 200)


async def test_without_another_leader_nobody_knows(lab: Lab) -> None:
    lossy = Lossy(lab)
    lossy.then, lossy.raises = lambda: lab.lead(None), CommitInDoubt
    lossy.install()
    assert await lab.second.ask("POST", "/services/create", WEB) == (500, {"message": IN_DOUBT})


@pytest.mark.parametrize("refusal", [NotLeading, NoLeader])
async def test_a_write_that_the_leader_could_not_make_is_made_by_the_next_one(
    lab: Lab, refusal: type[EnxameError]
) -> None:
    lossy = Lossy(lab)
    lossy.commits, lossy.then = False, lambda: lab.lead(lab.second)
    lossy.raises = (lambda: refusal("it does not lead")) if refusal is NotLeading else NoLeader
    lossy.install()
    assert (await lab.second.ask("POST", "/services/create", WEB))[0] == 201


async def test_a_leader_that_cannot_commit_any_more_hands_its_own_clients_requests_on(lab: Lab) -> None:
    lossy = Lossy(lab)
    lossy.commits, lossy.then, lossy.raises = False, lambda: lab.lead(lab.second), NoLeader
    lossy.install()
    assert (await lab.first.ask("POST", "/services/create", WEB))[0] == 201
    assert (await lab.first.ask("GET", "/services/web"))[0] == 200


async def test_a_read_is_repeated_when_the_link_breaks(lab: Lab) -> None:
    assert (await lab.second.ask("GET", "/nodes"))[0] == 200
    await lab.first.port.close()
    await lab.first.open_port()
    assert (await lab.second.ask("GET", "/nodes"))[0] == 200
