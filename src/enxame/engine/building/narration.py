"""What buildah says of a build, told as Docker's classic builder would. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from enxame.errors import EnxameError, InvalidArgument

__all__ = ["CommandFailed", "Narration"]

_STEP: Final = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)")
_CACHED: Final = re.compile(r"--> Using cache ([0-9a-f]{12})[0-9a-f]*")
_MADE: Final = re.compile(r"(?:\[\d+/\d+\] )?--> ([0-9a-f]{11,12})[0-9a-f]*")
_OWN: Final = re.compile(r"(?:\[\d+/\d+\] )?COMMIT.*|Getting image source signatures|[0-9a-f]{64}")
_FAILED: Final = re.compile(r"[Ee]rror: (?:error )?(building at STEP .*|.*)", re.DOTALL)
_AT_STEP: Final = re.compile(r'building at STEP "(?P<step>(?P<word>\w+) .*?)": (?P<why>.*)', re.DOTALL)
_EXIT: Final = re.compile(r"exit status (\d+)")
_MISSING: Final = re.compile(r'copier: stat: "/?([^"]*)": no such file or directory')
#: How much of an unfinished line is kept back, in characters.
_LINE_LIMIT: Final = 16 * 1024


class CommandFailed(EnxameError):
    """A command of the build ended with ``exit_code``, which docker's command takes for its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Narration:
    """Turns buildah's output into lines of ``stream``. ``names`` are the words to be told instead of ours."""

    def __init__(self, steps: int, names: Mapping[str, str], told: int = 0) -> None:
        self._steps = steps
        self._names = names
        self._step = told
        self._partial = ""
        self._failure = ""

    def hear(self, text: str) -> Iterator[str]:
        """Take a piece of output; what is to be told."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            yield from self._line(line)
        if len(self._partial) > _LINE_LIMIT:
            yield self._partial
            self._partial = ""

    def end(self) -> Iterator[str]:
        """Nothing more comes."""
        if self._partial:
            yield from self._line(self._partial)
            self._partial = ""

    def _line(self, line: str) -> Iterator[str]:
        line = line.rstrip("\r")
        if found := _STEP.fullmatch(line):
            self._step += 1
            yield f"Step {self._step}/{max(self._steps, self._step)} : {self._original(found[1])}\n"
        elif found := _CACHED.fullmatch(line):
            yield " ---> Using cache\n"
            yield f" ---> {found[1]}\n"
        elif found := _MADE.fullmatch(line):
            yield f" ---> {found[1]}\n"
        elif (found := _FAILED.fullmatch(line)) and not line.startswith("error:"):
            self._failure = self._original(found[1])
        elif not _OWN.fullmatch(line):
            yield f"{self._original(line)}\n"

    def _original(self, text: str) -> str:
        for ours, theirs in self._names.items():
            text = text.replace(ours, theirs)
        return text

    def failure(self, code: int) -> EnxameError:
        """Why the build failed, in Docker's words where there are any."""
        text = self._failure or f"the build failed with exit code {code}"
        found = _AT_STEP.search(text)
        if found is None:
            return EnxameError(text)
        step, word, why = found["step"].replace('\\"', '"'), found["word"], found["why"]
        status = _EXIT.search(why)
        if word == "RUN" and status:
            command = step.removeprefix("RUN ").strip()
            shown = command if command.startswith("[") else f"/bin/sh -c {command}"
            return CommandFailed(f"The command '{shown}' returned a non-zero code: {status[1]}", int(status[1]))
        missing = _MISSING.search(why)
        if word in {"COPY", "ADD"} and missing:
            return InvalidArgument(
                f"{word} failed: file not found in build context or excluded by .dockerignore: "
                f"stat {missing[1]}: file does not exist"
            )
        return EnxameError(f"{step}: {why}")
