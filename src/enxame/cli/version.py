"""``enxame version``."""

import platform
from typing import Any

from enxame import API_VERSION, __version__
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, Unreachable
from enxame.cli.flags import text
from enxame.cli.session import Session
from enxame.cli.tabwriter import align

Json = dict[str, Any]


def _client_facts(cli: Session) -> Json:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "Version": __version__,
        "ApiVersion": cli.client.version,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": machine,
        "Context": "default",
    }


@command(
    "version",
    "[OPTIONS]",
    "Show the version information",
    flags=[text("f,format", "Format output using a Go template, or 'json'")],
)
def version(cli: Session, flags: Flags, args: Args) -> None:
    """Prints this command's and the daemon's versions; without a daemon only its own, and an error."""
    server: Json | None = None
    problem: CliError | None = None
    try:
        server = cli.client.get("/version")
    except Unreachable as unreachable:
        problem = unreachable
    client = _client_facts(cli)
    if flags["format"]:
        from enxame.cli.gotemplate import Template
        from enxame.cli.table import to_json

        data = {"Client": client, "Server": server}
        cli.say(to_json(data) if flags["format"] == "json" else Template(flags["format"]).render(data))
    else:
        cli.out.write(_client_text(client))
        if server is not None:
            cli.out.write(_server_text(server))
    if problem:
        raise problem


def _client_text(facts: Json) -> str:
    api = facts["ApiVersion"]
    if api != facts["DefaultAPIVersion"]:
        api += f" (downgraded from {facts['DefaultAPIVersion']})"
    lines = [
        "Client: Enxame",
        f" Version:\t{facts['Version']}",
        f" API version:\t{api}",
        f" Python version:\t{facts['PythonVersion']}",
        f" OS/Arch:\t{facts['Os']}/{facts['Arch']}",
        f" Context:\t{facts['Context']}",
    ]
    return align(lines, min_width=20, padding=1)


def _server_text(server: Json) -> str:
    name = (server.get("Platform") or {}).get("Name", "")
    lines = ["", f"Server: {name}".rstrip()]
    for component in server.get("Components") or [
        {"Name": "Engine", "Version": server.get("Version", ""), "Details": server}
    ]:
        details = component.get("Details") or {}
        lines.append(f" {component['Name']}:")
        lines.append(f"  Version:\t{component.get('Version', '')}")
        if "ApiVersion" in details:
            lines.append(
                f"  API version:\t{details['ApiVersion']} (minimum version {details.get('MinAPIVersion', '')})"
            )
        for key, title in (
            ("GoVersion", "Go version"),
            ("PythonVersion", "Python version"),
            ("GitCommit", "Git commit"),
            ("BuildTime", "Built"),
        ):
            if details.get(key):
                lines.append(f"  {title}:\t{details[key]}")
        if details.get("Os"):
            lines.append(f"  OS/Arch:\t{details['Os']}/{details.get('Arch', '')}")
        if "Experimental" in details:
            lines.append(f"  Experimental:\t{details['Experimental']}")
    return align(lines, min_width=20, padding=1)
