"""Whether a node has done what it was told: it is asked to say so at the end of what is on its way."""

from __future__ import annotations

import asyncio


class Settling:
    """The numbers that a session asks its node to repeat. Whoever waits shares a question that is not asked yet."""

    def __init__(self) -> None:
        self._number = 0
        self._asked = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def wait(self) -> asyncio.Future[None]:
        """Done when the node has done everything it was told until now. Cancel it when nobody waits any more."""
        if self._number == self._asked:
            self._number += 1
        settled = asyncio.get_running_loop().create_future()
        self._waiting.append((self._number, settled))
        return settled

    @property
    def is_due(self) -> bool:
        """Whether there is a question to ask."""
        return self._number > self._asked

    def ask(self) -> int:
        """The number to send along; 0 when there is nothing to ask."""
        if not self.is_due:
            return 0
        self._asked = self._number
        return self._number

    def answer(self, number: int) -> None:
        """The node repeated a number."""
        waiting, self._waiting = self._waiting, []
        for wanted, settled in waiting:
            if wanted > number:
                self._waiting.append((wanted, settled))
            elif not settled.done():
                settled.set_result(None)

    def end(self) -> None:
        """The conversation is over: there is nobody to wait for."""
        self.answer(self._number)
