"""``enxame events``."""

from collections.abc import Callable
from typing import Any

from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import text
from enxame.cli.listflags import filter_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session
from enxame.cli.timestamps import query_timestamp, rfc3339_nano

Json = dict[str, Any]


def event_line(event: Json) -> str:
    """``2022-11-22T02:25:17.903612904Z node update ID (name=lab2, role.new=worker)``."""
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    words = [rfc3339_nano(nanoseconds // 10**9, nanoseconds % 10**9), event.get("Type", ""), event.get("Action", "")]
    actor = event.get("Actor") or {}
    words.append(actor.get("ID", ""))
    attributes = sorted((actor.get("Attributes") or {}).items())
    if attributes:
        words.append("(" + ", ".join(f"{k}={v}" for k, v in attributes) + ")")
    return " ".join(words)


@command(
    "events",
    "[OPTIONS]",
    "Get real time events from the server",
    flags=[
        filter_flag(),
        text("format", "Format the output using the given Go template"),
        text("since", "Show all events created since timestamp"),
        text("until", "Stream events until this timestamp"),
    ],
)
def events(cli: Session, flags: Flags, args: Args) -> None:
    """Prints what happens, until it is ended (or ``--until``)."""
    try:
        since, until = query_timestamp(flags["since"]), query_timestamp(flags["until"])
    except ValueError as problem:
        raise CliError(str(problem)) from None
    template = flags["format"]
    render: Callable[[Any], str] = event_line
    if template in {"json", "{{json .}}"}:
        from enxame.cli.table import to_json

        render = to_json
    elif template:
        from enxame.cli.gotemplate import Template

        render = Template(template.replace(r"\t", "\t").replace(r"\n", "\n")).render
    query = {"since": since or None, "until": until or None, "filters": encode_filters(flags["filter"])}
    with cli.client.stream("GET", "/events", query) as stream:
        for event in stream.messages():
            cli.say(render(event))
            cli.out.flush()
