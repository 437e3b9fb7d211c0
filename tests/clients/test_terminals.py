"""Terminals: leaving a container that goes on, and coming back."""

import pytest

from tests.clients.command import IMAGE, Command

SHELL = ["sh", "-c", 'echo ready; while read line; do echo "<$line>"; done']


def is_running(tool: Command, name: str) -> bool:
    return tool("inspect", "-f", "{{.State.Running}}", name) == "true"


@pytest.mark.parametrize(
    ("keys", "typed"), [([], "\x10\x11"), (["--detach-keys", "ctrl-a,d"], "\x01d")], ids=["usual keys", "own keys"]
)
def test_who_leaves_by_keys_finds_the_container_as_it_was(tool: Command, keys: list[str], typed: str) -> None:
    name = f"left-{tool.name}"
    try:
        with tool.terminal("run", "-it", *keys, "--name", name, IMAGE, *SHELL) as terminal:
            terminal.shows("ready")
            terminal.type("one\n")
            terminal.shows("<one>")
            terminal.type(typed)
            assert terminal.ends() in {0, 1}
        assert is_running(tool, name)
        with tool.terminal("attach", *keys, name) as terminal:
            terminal.type("two\n")
            terminal.shows("<two>")
            terminal.type(typed)
            terminal.ends()
            assert "<one>" not in terminal.seen.partition("two")[2]
        assert is_running(tool, name)
    finally:
        tool("rm", "-f", name)


def test_half_of_the_keys_is_input_like_any_other(tool: Command) -> None:
    name = f"half-{tool.name}"
    script = ["sh", "-c", "stty raw -echo; echo ready; dd bs=1 count=3 2>/dev/null | od -An -tx1; exec sleep 60"]
    try:
        with tool.terminal("run", "-it", "--detach-keys", "ctrl-a,d", "--name", name, IMAGE, *script) as terminal:
            terminal.shows("ready")
            terminal.type("\x01x\x01")
            terminal.type("y")
            terminal.shows("01 78 01")
            terminal.type("\x01d")
            terminal.ends()
        assert is_running(tool, name)
    finally:
        tool("rm", "-f", name)


def test_an_exec_is_left_by_keys_as_well(tool: Command) -> None:
    name = f"exec-{tool.name}"
    try:
        tool("run", "-d", "--name", name, IMAGE, "sleep", "300")
        with tool.terminal("exec", "-it", name, *SHELL) as terminal:
            terminal.shows("ready")
            terminal.type("one\n")
            terminal.shows("<one>")
            terminal.type("\x10\x11")
            terminal.ends()
        assert is_running(tool, name)
        assert "read line" in tool("top", name)
    finally:
        tool("rm", "-f", name)


def test_wrong_keys_are_told(tool: Command) -> None:
    name = f"wrong-{tool.name}"
    try:
        tool("run", "-dit", "--name", name, IMAGE, *SHELL)
        with tool.terminal("attach", "--detach-keys", "ctrl-#", name) as terminal:
            assert terminal.ends() == 1
            # The stock command shows no more of a refused connection than its status.
            refused = "received 400" if tool.name == "docker" else "Invalid detach keys"
            assert refused in terminal.seen
    finally:
        tool("rm", "-f", name)
