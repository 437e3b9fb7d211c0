"""``enxame context``: named daemons."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.context_store import DEFAULT, HOST_VARIABLES, TLS_NAMES, Context, ContextStore, check_name
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text
from enxame.cli.options.numbers import parse_bool
from enxame.cli.session import Session
from enxame.cli.table import Table

_TLS_KEYS = dict(zip(("ca", "cert", "key"), TLS_NAMES, strict=True))

group = Group(
    "context",
    "Manage contexts",
    {
        "create": "context:create",
        "inspect": "context:inspect",
        "ls": "context:ls",
        "rm": "context:rm",
        "show": "context:show",
        "update": "context:update",
        "use": "context:use",
    },
    {"list": "ls", "remove": "rm"},
)

_ENDPOINT_FLAG = many(
    "docker", "stringToString", "set the docker endpoint (host=…, ca=…, cert=…, key=…, skip-tls-verify=…, from=…)"
)


def _error_of(context: Context) -> str:
    try:
        context.endpoint()
    except CliError as problem:
        return problem.message
    return ""


_TABLE = Table(
    {
        "Name": lambda row: row[0].name,
        "Description": lambda row: row[0].description,
        "DockerEndpoint": lambda row: row[0].host,
        "Current": lambda row: row[1],
        "Error": lambda row: _error_of(row[0]),
        "_Name": lambda row: f"{row[0].name} *" if row[1] else row[0].name,
    },
    [("_Name", "NAME"), ("Description", "DESCRIPTION"), ("DockerEndpoint", "DOCKER ENDPOINT"), ("Error", "ERROR")],
    {"Name": "NAME"},
    quiet="Name",
)


@command(
    "ls",
    "[OPTIONS]",
    "List contexts",
    flags=[
        text("format", "Format output using a custom template ('table', 'json' or a Go template)"),
        switch("q,quiet", "Only show context names"),
    ],
    aliases=("list",),
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """All of them; a star at the one that counts now."""
    store = ContextStore()
    current = store.current()
    rows = [(store.load(name), name == current) for name in store.names()]
    _TABLE.write(cli.out, rows, flags["format"], quiet=flags["quiet"])


@command("show", "", "Print the name of the current context")
def show(cli: Session, flags: Flags, args: Args) -> None:
    """The one that counts now."""
    cli.say(ContextStore().current())


@command("use", "CONTEXT", "Set the current context", count=(1, 1), completes="context")
def use(cli: Session, flags: Flags, args: Args) -> None:
    """From now on, wherever nothing else names a daemon."""
    name, store = args[0], ContextStore()
    store.load(name)
    store.use(name)
    cli.say(name)
    cli.warn(f'Current context is now "{name}"')
    variable = next((variable for variable in HOST_VARIABLES if os.environ.get(variable)), "")
    if variable and name != DEFAULT:
        cli.warn(
            f'Warning: {variable} environment variable overrides the active context. To use "{name}", either set the '
            f"global --context flag, or unset {variable} environment variable."
        )


@command(
    "create",
    "[OPTIONS] CONTEXT",
    "Create a context",
    flags=[
        text("description", "Description of the context"),
        _ENDPOINT_FLAG,
        text("from", "create context from a named context"),
    ],
    count=(1, 1),
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """A new name for a daemon."""
    name, store = args[0], ContextStore()
    check_name(name)
    if store.exists(name):
        raise CliError(f'context "{name}" already exists')
    origin = store.load(flags["from"] or DEFAULT)
    description = flags["description"] or (origin.description if flags["from"] else "")
    made = replace(origin, name=name, description=description)
    store.save(_with_endpoint(store, made, flags["docker"]))
    cli.say(name)
    cli.warn(f'Successfully created context "{name}"')


@command(
    "update",
    "[OPTIONS] CONTEXT",
    "Update a context",
    flags=[text("description", "Description of the context"), _ENDPOINT_FLAG],
    count=(1, 1),
    completes="context",
)
def update(cli: Session, flags: Flags, args: Args) -> None:
    """Changes what is given."""
    name, store = args[0], ContextStore()
    check_name(name)
    found = store.load(name)
    if flags.changed("description"):
        found = replace(found, description=flags["description"])
    store.save(_with_endpoint(store, found, flags["docker"]))
    cli.say(name)
    cli.warn(f'Successfully updated context "{name}"')


@command(
    "rm",
    "CONTEXT [CONTEXT...]",
    "Remove one or more contexts",
    flags=[switch("f,force", "Force the removal of a context in use")],
    count=(1, -1),
    aliases=("remove",),
    completes="context",
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Forgets them; the daemons go on."""
    store = ContextStore()
    for name in args:
        if name == DEFAULT:
            cli.complain('context "default" cannot be removed')
        elif not store.exists(name) and not flags["force"]:
            cli.complain(f'context "{name}" does not exist')
        elif name == store.current() and not flags["force"]:
            cli.complain(f'context "{name}" is in use, set -f flag to force remove')
        else:
            store.remove(name)
            cli.say(name)


@command(
    "inspect",
    "[OPTIONS] [CONTEXT] [CONTEXT...]",
    "Display detailed information on one or more contexts",
    flags=[text("f,format", "Format output using a custom template ('json' or a Go template)")],
    count=(0, -1),
    completes="context",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """As JSON, or through a template; the current one when none is named."""
    from enxame.cli.inspecting import inspect_objects

    store = ContextStore()
    inspect_objects(cli, args or (store.current(),), lambda name: _details(store, name), flags["format"])


def _details(store: ContextStore, name: str) -> dict[str, Any]:
    context = store.load(name)
    return {
        "Name": name,
        "Metadata": {"Description": context.description} if context.description else {},
        "Endpoints": {"docker": {"Host": context.host, "SkipTLSVerify": context.skip_verify}},
        "TLSMaterial": {"docker": sorted(context.tls)} if context.tls else {},
        "Storage": {"MetadataPath": str(store.meta_path(name)), "TLSPath": str(store.tls_path(name))}
        if name != DEFAULT
        else {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
    }


def _with_endpoint(store: ContextStore, context: Context, given: tuple[str, ...]) -> Context:
    """With what ``--docker`` says. Raises CliError in docker's words."""
    if not given:
        return context
    pairs = dict(item.partition("=")[::2] for text_ in given for item in text_.split(","))
    unknown = next((key for key in pairs if key not in {"host", "skip-tls-verify", "from", *_TLS_KEYS}), "")
    if unknown:
        raise CliError(f"unable to create docker endpoint config: unrecognized config key: {unknown}")
    if pairs.get("from"):
        origin = store.load(pairs["from"])
        return replace(context, host=origin.host, skip_verify=origin.skip_verify, tls=origin.tls)
    tls = {}
    for key, name in _TLS_KEYS.items():
        if pairs.get(key):
            path = Path(pairs[key]).expanduser()
            if not path.is_file():
                raise CliError(f"unable to create docker endpoint config: open {path}: no such file or directory")
            tls[name] = path
    try:
        skip = parse_bool(pairs.get("skip-tls-verify", "false"))
    except ValueError as problem:
        raise CliError(f"unable to create docker endpoint config: skip-tls-verify: {problem}") from None
    made = replace(context, host=pairs.get("host") or context.host, skip_verify=skip, tls=tls)
    if problem_ := _error_of(made):
        raise CliError(f"unable to create docker endpoint config: invalid docker endpoint options: {problem_}")
    return made
