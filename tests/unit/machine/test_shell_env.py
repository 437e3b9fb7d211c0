import pytest

from enxame.machine.errors import MachineError
from enxame.machine.shell_env import detect_shell, lines_to_set, lines_to_unset, without_proxy

WORDS = ["enxame", "machine", "env", "vm1"]


@pytest.mark.parametrize(
    ("shell", "first", "last"),
    [
        ("bash", 'export DOCKER_HOST="tcp://h:1"', "# eval $(enxame machine env vm1)"),
        ("zsh", 'export DOCKER_HOST="tcp://h:1"', "# eval $(enxame machine env vm1)"),
        ("fish", 'set -gx DOCKER_HOST "tcp://h:1";', "# enxame machine env vm1 | source"),
        ("cmd", "SET DOCKER_HOST=tcp://h:1", "REM \t@FOR /f \"tokens=*\" %i IN ('enxame machine env vm1') DO @%i"),
        ("powershell", '$Env:DOCKER_HOST = "tcp://h:1"', "# & enxame machine env vm1 | Invoke-Expression"),
        ("tcsh", 'setenv DOCKER_HOST "tcp://h:1";', "# eval `enxame machine env vm1`"),
        (
            "emacs",
            '(setenv "DOCKER_HOST" "tcp://h:1")',
            ';; (with-temp-buffer (shell-command "enxame machine env vm1" (current-buffer)) (eval-buffer))',
        ),
    ],
)
def test_each_shell_gets_its_own_grammar(shell: str, first: str, last: str) -> None:
    lines = lines_to_set(shell, {"DOCKER_HOST": "tcp://h:1"}, WORDS)
    assert lines[0] == first
    assert lines[-1] == last


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "unset DOCKER_HOST"),
        ("fish", "set -e DOCKER_HOST;"),
        ("cmd", "SET DOCKER_HOST="),
        ("powershell", r"Remove-Item Env:\\DOCKER_HOST"),
        ("tcsh", "unsetenv DOCKER_HOST;"),
        ("emacs", '(setenv "DOCKER_HOST" nil)'),
    ],
)
def test_variables_are_taken_away_again(shell: str, line: str) -> None:
    assert lines_to_unset(shell, ["DOCKER_HOST"], WORDS)[0] == line


def test_the_shell_is_taken_from_the_environment() -> None:
    assert detect_shell({"SHELL": "/usr/bin/fish"}) == "fish"
    with pytest.raises(MachineError, match="Unknown shell"):
        detect_shell({})


def test_the_machine_is_added_to_hosts_without_a_proxy_once() -> None:
    assert without_proxy({}, "10.0.0.1") == ("NO_PROXY", "10.0.0.1")
    assert without_proxy({"no_proxy": "a,b"}, "10.0.0.1") == ("no_proxy", "a,b,10.0.0.1")
    assert without_proxy({"NO_PROXY": "10.0.0.1,a"}, "10.0.0.1") == ("NO_PROXY", "10.0.0.1,a")
