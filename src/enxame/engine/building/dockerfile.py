"""What the daemon has to know of a Dockerfile before buildah runs it: its steps, and which images it starts from. Pure.

Images are named in ``FROM`` and in ``--from=`` of ``COPY`` and ``RUN --mount``. They are brought by the daemon and
given to buildah under names of our own, so that buildah itself never asks a registry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from enxame.errors import InvalidArgument
from enxame.model.natural import natural

__all__ = ["BaseImage", "Dockerfile", "parse_dockerfile"]

_DIRECTIVE: Final = re.compile(r"#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*")
_FROM: Final = re.compile(r"(?P<flags>(?:--\S+\s+)*)(?P<image>\S+)(?:\s+as\s+(?P<name>\S+))?\s*", re.IGNORECASE)
_PLATFORM: Final = re.compile(r"--platform=(\S+)")
_COPY_FROM: Final = re.compile(r"(?<!\S)--from=(\S+)")
_MOUNT_FROM: Final = re.compile(r"((?<!\S)--mount=\S*?\bfrom=)([^,\s]+)")
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?:(:[-+])([^}]*))?\}|(\w+))")
#: Far more than an image can have layers.
_MOST_INSTRUCTIONS: Final = 5000
#: Characters of what follows FROM, and of values that it may be made of.
_LONGEST_VALUE: Final = 4096
_INSTRUCTIONS: Final = frozenset(
    {
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
        *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    }
)


@dataclass(frozen=True)
class BaseImage:
    """An image that the build needs, as the Dockerfile calls it; ``platform`` is empty for the build's own."""

    reference: str
    platform: str = ""


@dataclass(frozen=True)
class _Instruction:
    line: int
    word: str
    rest: str
    raw: list[str]


@dataclass
class _Stage:
    name: str
    base: BaseImage | None
    instructions: list[_Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile that was read. ``images`` are needed up to the target stage; ``steps`` is how many Docker counts;
    ``arguments`` are the steps before the first ``FROM``, as they are written.
    """

    images: list[BaseImage]
    steps: int
    arguments: list[str]
    _stages: list[_Stage]
    _leading: list[_Instruction]
    _directives: list[str]
    _last: int

    def renamed(self, name_of: Callable[[BaseImage], str]) -> str:
        """The text for buildah: every image under the name that ``name_of`` gives it."""
        lines = [*self._directives]
        for instruction in self._leading:
            lines += instruction.raw
        known: set[str] = set()
        for number, stage in enumerate(self._stages):
            for instruction in stage.instructions:
                if number > self._last:
                    lines += instruction.raw
                elif instruction.word == "FROM":
                    lines.append(_renamed_from(instruction, stage, name_of))
                else:
                    lines += _renamed_sources(instruction, known, name_of)
            known |= {str(number), stage.name.lower()}
        return "\n".join(lines) + "\n"


def parse_dockerfile(text: str, *, arguments: Mapping[str, str], target: str = "") -> Dockerfile:
    """Read a Dockerfile; ``arguments`` are the build's own values of ``ARG``.

    Raises:
        InvalidArgument: in Docker's words.
    """
    instructions, directives = _split(text)
    if not instructions:
        raise InvalidArgument("the Dockerfile (Dockerfile) cannot be empty")
    if len(instructions) > _MOST_INSTRUCTIONS:
        raise InvalidArgument(f"the Dockerfile has more than {_MOST_INSTRUCTIONS} instructions")
    for one in instructions:
        if one.word not in _INSTRUCTIONS:
            raise InvalidArgument(f"dockerfile parse error line {one.line}: unknown instruction: {one.word}")
    leading: list[_Instruction] = []
    stages: list[_Stage] = []
    values: dict[str, str] = {}
    names: set[str] = set()
    for one in instructions:
        if one.word == "FROM":
            stages.append(_stage(one, values, names))
            names.add(stages[-1].name.lower())
        elif stages:
            stages[-1].instructions.append(one)
        elif one.word == "ARG":
            leading.append(one)
            name, equals, default = one.rest.partition("=")
            name = name.strip()
            if name in arguments:
                values[name] = arguments[name]
            elif equals:
                values[name] = _expand(default.strip().strip("\"'"), values)
        else:
            raise InvalidArgument("no build stage in current context")
    if not stages:
        raise InvalidArgument("No build stage in Dockerfile: it has no FROM")
    last = _target(stages, target)
    return Dockerfile(
        images=_images(stages, last),
        steps=len(leading) + sum(len(stage.instructions) for stage in stages[: last + 1]),
        arguments=[f"ARG {one.rest}" for one in leading],
        _stages=stages,
        _leading=leading,
        _directives=directives,
        _last=last,
    )


def _split(text: str) -> tuple[list[_Instruction], list[str]]:
    escape, directives = "\\", []
    lines = text.removeprefix("\ufeff").splitlines()
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        directives.append(line)
        if directive[1].lower() == "escape":
            if directive[2] not in {"\\", "`"}:
                raise InvalidArgument(f"invalid ESCAPE '{directive[2]}'. Must be ` or \\")
            escape = directive[2]
    found: list[_Instruction] = []
    raw: list[str] = []
    joined, start = "", 0
    for number, line in enumerate(lines[len(directives) :], len(directives) + 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue  # also inside a continued instruction
        if not raw:
            start = number
        raw.append(line)
        if stripped.endswith(escape):
            joined += line.rstrip()[: -len(escape)].lstrip() if not joined else line.rstrip()[: -len(escape)]
            continue
        joined += line
        found.append(_instruction(start, joined, raw))
        raw, joined = [], ""
    if raw:
        found.append(_instruction(start, joined, raw))
    return found, directives


def _instruction(line: int, text: str, raw: list[str]) -> _Instruction:
    word, _, rest = text.strip().partition(" ")
    if "\t" in word:
        word, _, rest = text.strip().partition("\t")
    return _Instruction(line, word.upper(), rest.strip(), raw)


def _stage(one: _Instruction, values: Mapping[str, str], before: set[str]) -> _Stage:
    match = _FROM.fullmatch(one.rest) if len(one.rest) <= _LONGEST_VALUE else None
    if match is None:
        raise InvalidArgument(f"dockerfile parse error line {one.line}: FROM requires either one or three arguments")
    name = match["name"] or ""
    image = _expand(match["image"], values)
    if not image:
        raise InvalidArgument(f"base name ({match['image']}) should not be blank")
    if image.lower() == "scratch" or image.lower() in before:
        return _Stage(name, None, [one])
    platform = _PLATFORM.search(match["flags"] or "")
    return _Stage(name, BaseImage(image, _expand(platform[1], values) if platform else ""), [one])


def _expand(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = values.get(match[1] or match[4], "")
        if match[2] == ":-":
            return found or match[3]
        if match[2] == ":+":
            return match[3] if found else ""
        return found

    if len(text) > _LONGEST_VALUE:
        return ""  # no part of an image's name
    expanded = _VARIABLE.sub(value, text)
    if len(expanded) > _LONGEST_VALUE:  # made of values that double each other
        raise InvalidArgument(f"the value of an ARG before the first FROM is longer than {_LONGEST_VALUE} characters")
    return expanded


def _target(stages: list[_Stage], target: str) -> int:
    if not target:
        return len(stages) - 1
    for number, stage in enumerate(stages):
        if stage.name.lower() == target.lower():
            return number
    index = natural(target)
    if index is not None and index < len(stages):
        return index
    raise InvalidArgument(f"failed to reach build target {target} in Dockerfile")


def _images(stages: list[_Stage], last: int) -> list[BaseImage]:
    found: dict[BaseImage, None] = {}
    known: set[str] = set()
    for number, stage in enumerate(stages[: last + 1]):
        if stage.base is not None:
            found[stage.base] = None
        for instruction in stage.instructions[1:]:
            for pattern, group in _sources(instruction):
                for match in pattern.finditer(instruction.rest):
                    if match[group].lower() not in known:
                        found[BaseImage(match[group])] = None
        known |= {str(number), stage.name.lower()}
    return list(found)


def _sources(instruction: _Instruction) -> list[tuple[re.Pattern[str], int]]:
    if instruction.word in {"COPY", "ADD"}:
        return [(_COPY_FROM, 1)]
    return [(_MOUNT_FROM, 2)] if instruction.word == "RUN" else []


def _renamed_from(instruction: _Instruction, stage: _Stage, name_of: Callable[[BaseImage], str]) -> str:
    match = _FROM.fullmatch(instruction.rest)
    assert match is not None
    if stage.base is None:
        return f"FROM {instruction.rest}"
    return f"FROM {name_of(stage.base)}" + (f" AS {stage.name}" if stage.name else "")


def _renamed_sources(instruction: _Instruction, known: set[str], name_of: Callable[[BaseImage], str]) -> list[str]:
    rest = instruction.rest
    for pattern, group in _sources(instruction):

        def rename(match: re.Match[str], group: int = group) -> str:
            if match[group].lower() in known:
                return match[0]
            return match[0][: match.start(group) - match.start()] + name_of(BaseImage(match[group]))

        rest = pattern.sub(rename, rest)
    return instruction.raw if rest == instruction.rest else [f"{instruction.word} {rest}"]
