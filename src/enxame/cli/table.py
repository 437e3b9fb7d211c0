"""Lists of objects: docker's tables, and ``--format`` over them (``json``, ``table …``, Go templates)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

from enxame.cli.tabwriter import align

Field = Callable[[Any], Any]


class Row(Mapping[str, Any]):
    """One object seen through its fields; each is computed when it is asked for."""

    def __init__(self, source: Any, fields: Mapping[str, Field]) -> None:
        self.source = source
        self._fields = fields

    def __getitem__(self, name: str) -> Any:
        return self._fields[name](self.source)

    def __iter__(self) -> Any:
        return iter(sorted(name for name in self._fields if name not in _METHODS and not name.startswith("_")))

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return name in self._fields


_HTML = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}

#: Fields that take an argument in templates (``{{.Label "x"}}``) and are no part of ``{{json .}}``.
_METHODS = frozenset({"Label"})


class Table:
    """How one kind of object is listed.

    ``fields``: how to compute each field from an object; ``columns``: (field, header) of the default table;
    ``headers``: headers of further fields for custom tables.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        columns: Sequence[tuple[str, str]],
        headers: Mapping[str, str] | None = None,
        *,
        quiet: str = "ID",
    ) -> None:
        self.fields = fields
        self.columns = columns
        self.headers = {**dict(columns), **(headers or {})}
        self.quiet = quiet

    def write(self, out: TextIO, items: Iterable[Any], template: str = "", *, quiet: bool = False) -> None:
        """Prints ``items``. Raises BadTemplate."""
        if quiet and not template:
            out.writelines(f"{self.fields[self.quiet](item)}\n" for item in items)
        elif template in {"", "table"}:
            readers = [self.fields[name] for name, _ in self.columns]
            lines = ["\t".join(header for _, header in self.columns)]
            lines += ["\t".join(plain(read(item)) for read in readers) for item in items]
            out.write(align(lines))
        elif template in {"json", "{{json .}}"}:
            for item in items:
                out.write(to_json(Row(item, self.fields)) + "\n")
        else:
            self._write_template(out, items, template, quiet=quiet)

    def _write_template(self, out: TextIO, items: Iterable[Any], text: str, *, quiet: bool) -> None:
        from enxame.cli.gotemplate import HEADER_FUNCTIONS, Template

        as_table = text.startswith("table")
        body = text.removeprefix("table") if as_table else text.removeprefix("raw")
        if as_table and quiet:
            body, as_table = "{{." + self.quiet + "}}", False
        body = (body.strip() if as_table else body).replace(r"\t", "\t").replace(r"\n", "\n")
        parsed = Template(body)
        rows = [parsed.render(Row(item, self.fields)) for item in items]
        if not as_table:
            out.writelines(f"{row}\n" for row in rows)
            return
        header = parsed.render({**self.headers, "Label": _label_header}, functions=HEADER_FUNCTIONS)
        out.write(align([line for row in (header, *rows) for line in row.split("\n")]))


def _label_header(name: str) -> str:
    return name.rsplit(".", 1)[-1].replace("-", " ").replace("_", " ")


def plain(value: Any) -> str:
    """A cell's text."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    return "" if value is None else str(value)


def to_json(value: Any) -> str:
    """Compact JSON as Go's encoder writes it: rows with its HTML escapes, all else without."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_default)
    return text.translate(_HTML) if isinstance(value, Row) else text


def _json_default(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def short_id(identifier: str) -> str:
    """Twelve characters, without a digest's algorithm."""
    return identifier.rpartition(":")[2][:12] if ":" in identifier else identifier[:12]
