"""``enxame exec``."""

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.container.joined import check_terminal, join_streams
from enxame.cli.errors import CliError, Exit
from enxame.cli.flags import many, switch, text
from enxame.cli.options.fields import environment, parse_env
from enxame.cli.session import Session


@command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run a command in a running container",
    flags=[
        switch("d,detach", "Detached mode: run command in the background"),
        text("detach-keys", "Override the key sequence for detaching a container"),
        many("e,env", "list", "Set environment variables", parse_env),
        many("env-file", "list", "Read in a file of environment variables"),
        switch("i,interactive", "Keep STDIN open even if not attached"),
        switch("privileged", "Give extended privileges to the command"),
        switch("t,tty", "Allocate a pseudo-TTY"),
        text("u,user", "Username or UID (format: <name|uid>[:<group|gid>])"),
        text("w,workdir", "Working directory inside the container"),
    ],
    count=(2, -1),
    interspersed=False,
    completes="running",
)
def exec_(cli: Session, flags: Flags, args: Args) -> None:
    """Runs a command beside a container's own."""
    try:
        variables = environment(flags["env-file"], flags["env"])
    except ValueError as problem:
        raise CliError(str(problem)) from None
    detach, tty = flags["detach"], flags["tty"]
    stdin = flags["interactive"] and not detach
    if not detach:
        check_terminal(tty=tty, stdin=stdin)
    request = {
        "User": flags["user"],
        "Privileged": flags["privileged"],
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "Detach": detach,
        "DetachKeys": flags["detach-keys"],
        "Env": variables or None,
        "WorkingDir": flags["workdir"],
        "Cmd": list(args[1:]),
    }
    identifier = cli.client.post(f"/containers/{quoted(args[0])}/exec", request)["Id"]
    start = {"Detach": detach, "Tty": tty}
    if detach:
        cli.client.post(f"/exec/{identifier}/start", start)
        return
    connection = cli.client.hijack(f"/exec/{identifier}/start", body=start)
    if join_streams(
        cli,
        connection,
        args[0],
        tty=tty,
        stdin=stdin,
        detach_keys=flags["detach-keys"],
        exec_id=identifier,
        proxy=False,
    ):
        return
    code = cli.client.get(f"/exec/{identifier}/json").get("ExitCode") or 0
    if code:
        raise Exit(code)
