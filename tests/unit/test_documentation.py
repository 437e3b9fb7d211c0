"""The documentation names files, modules and pages that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
#: Directories of this project's own text.
TREES = ("src", "tests", "docs", "bench", "scripts", "packaging", "examples", ".ci")
_QUOTED = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|sh)")
_MODULE = re.compile(r"((enxame|control|store|engine|membership|agent)(\.[a-z_]\w*)+)((\.[A-Z]\w*)(\.\w+)*)?")
#: Labels, sockets, units and a group of entry points.
OTHER_NAMES = {
    "enxame.machine_drivers",
    "enxame.network.affinity",
    "enxame.network.ingress",
    "enxame.service",
    "enxame.sock",
    "enxame.socket",
}
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def files() -> Iterator[str]:
    for tree in TREES:
        for path in (ROOT / tree).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"/{path.relative_to(ROOT)}"


FILES = [*files(), *(f"/{path.name}" for path in ROOT.iterdir() if path.is_file())]


def is_module(name: str) -> bool:
    """A module, a package or a name in one."""
    *parents, last = f"enxame.{name.removeprefix('enxame.')}".split(".")
    home = ROOT / "src" / Path(*parents)
    if any((home / part).exists() for part in (last, f"{last}.py")):
        return True
    source = home.with_suffix(".py") if home.with_suffix(".py").exists() else home / "__init__.py"
    return source.exists() and re.search(rf"\b{last}\b", source.read_text()) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    missing = []
    for quoted in _QUOTED.findall(text):
        for word in quoted.split():
            if _FILE.fullmatch(word) and not any(path.endswith(f"/{word}") for path in FILES):
                missing.append(word)
            named = _MODULE.fullmatch(word)
            if named and word not in OTHER_NAMES and not is_module(named[1]):
                missing.append(word)
    missing += [link for link, _ in _LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


def interfaces(page: str) -> Iterator[tuple[str, list[str]]]:
    """The classes that a page's code shows, with their methods."""
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for name, body in re.findall(r"^class (\w+)[^\n]*\n((?:[ #][^\n]*\n|\n)*)", block, re.MULTILINE):
            yield name, re.findall(r"\bdef (\w+)", body)


def test_the_interfaces_that_the_seams_show_are_those_of_the_code() -> None:
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    missing = []
    shown = dict(interfaces((ROOT / "docs/design/0001-the-seams.md").read_text()))
    assert len(shown) > 10
    for name, methods in shown.items():
        home = [text for text in sources if re.search(rf"^class {name}\b", text, re.MULTILINE)]
        missing += [name] * (not home)
        missing += [f"{name}.{one}" for one in methods if not any(f" def {one}(" in text for text in home)]
    assert missing == []
