"""``enxame container prune``."""

from enxame.cli.command import Args, Flags, command
from enxame.cli.flags import switch
from enxame.cli.humanise import size_words
from enxame.cli.listflags import filter_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session

WARNING = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"


@command(
    "prune",
    "[OPTIONS]",
    "Remove all stopped containers",
    flags=[
        filter_flag("filter", "Provide filter values (e.g. 'until=<timestamp>')"),
        switch("f,force", "Do not prompt for confirmation"),
    ],
)
def prune(cli: Session, flags: Flags, args: Args) -> None:
    """Removes what does not run."""
    if not flags["force"] and not cli.confirm(WARNING):
        return
    found = cli.client.post("/containers/prune", query={"filters": encode_filters(flags["filter"])}) or {}
    if found.get("ContainersDeleted"):
        cli.say("Deleted Containers:\n" + "\n".join(found["ContainersDeleted"]) + "\n")
    cli.say(f"Total reclaimed space: {size_words(found.get('SpaceReclaimed', 0))}")
