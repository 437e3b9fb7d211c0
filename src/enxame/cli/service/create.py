"""``enxame service create``."""

from enxame.cli.command import Args, Flags, command
from enxame.cli.images import normal_service_image, pin_digest
from enxame.cli.service.flags import create_flags
from enxame.cli.service.spec import service_spec
from enxame.cli.session import Session


@command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new service",
    flags=create_flags(),
    count=(1, -1),
    interspersed=False,
    completes="image",
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """Creates, prints the id, and waits until it has converged."""
    spec = service_spec(flags, args[0], list(args[1:]), cli.client)
    auth = cli.registry_auth(args[0]) if flags["with-registry-auth"] else ""
    normal_service_image(spec)
    unpinned = ""
    if not flags["no-resolve-image"]:
        unpinned = pin_digest(cli.client, spec, auth or cli.registry_auth(args[0]))
    answer = cli.client.post("/services/create", spec, headers={"X-Registry-Auth": auth} if auth else None)
    for warning in (*(answer.get("Warnings") or []), *([unpinned] if unpinned else [])):
        cli.warn(warning)
    cli.say(answer["ID"])
    if not flags["detach"]:
        from enxame.cli.service.progress import wait_for_service

        wait_for_service(cli, answer["ID"], quiet=flags["quiet"])
