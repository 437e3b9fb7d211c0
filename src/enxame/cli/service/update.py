"""``enxame service update``."""

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.images import normal_service_image, pin_digest
from enxame.cli.service.flags import update_flags
from enxame.cli.service.merge import merge
from enxame.cli.session import Session


@command("update", "[OPTIONS] SERVICE", "Update a service", flags=update_flags(), count=(1, 1), completes="service")
def update(cli: Session, flags: Flags, args: Args) -> None:
    """Reads the spec, changes it, writes it back, and waits until the update has converged."""
    client = cli.client
    service = client.get(f"/services/{quoted(args[0])}", {"insertDefaults": "false"})
    spec = service["Spec"]
    query: dict[str, str | int] = {"version": service["Version"]["Index"]}
    if flags["rollback"]:
        if flags.given - {"rollback", "detach", "quiet"}:
            raise CliError("other flags may not be combined with --rollback")
        query["rollback"] = "previous"
    merge(flags, spec, client)
    image = spec["TaskTemplate"].get("ContainerSpec", {}).get("Image", "")
    auth = cli.registry_auth(image) if flags["with-registry-auth"] else ""
    if not auth:
        query["registryAuthFrom"] = "spec"
    normal_service_image(spec)
    unpinned = ""
    if flags.changed("image") and not flags["no-resolve-image"]:
        unpinned = pin_digest(client, spec, auth or cli.registry_auth(image))
    headers = {"X-Registry-Auth": auth} if auth else None
    answer = client.post(f"/services/{service['ID']}/update", spec, query, headers) or {}
    for warning in (*(answer.get("Warnings") or []), *([unpinned] if unpinned else [])):
        cli.warn(warning)
    cli.say(args[0])
    if not flags["detach"]:
        from enxame.cli.service.progress import wait_for_service

        wait_for_service(cli, args[0], quiet=flags["quiet"])
