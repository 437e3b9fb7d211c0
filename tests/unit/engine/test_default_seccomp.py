"""What the narrowed profile says of each call, for containers with and without capabilities."""

import pytest

from enxame.engine.default_seccomp import narrowed
from enxame.engine.seccomp import compile_profile

SHIPPED = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [
        {"names": ["vmsplice", "swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {
            "names": ["read", "clone", "clone3", "unshare", "mount", "keyctl", "syslog", "reboot", "mbind"],
            "action": "SCMP_ACT_ALLOW",
        },
        {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW"},
    ],
}


def rulings(*capabilities, machine="x86_64"):
    """Calls to what is done with them, where no arguments matter. No call may be ruled on twice."""
    found = {}
    for rule in compile_profile(narrowed(SHIPPED), frozenset(capabilities), machine)["syscalls"]:
        for name in rule["names"]:
            if not rule.get("args"):
                assert name not in found, f"{name} is ruled on twice"
                found[name] = "allow" if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
    return found


def test_without_capabilities_there_are_no_namespaces_mounts_and_keys():
    plain = rulings()
    assert {plain[name] for name in ("unshare", "mount", "setns", "keyctl", "syslog", "reboot", "mbind")} == {1}
    assert plain["clone3"] == 38
    assert (plain["read"], plain["vmsplice"], plain["swapon"]) == ("allow", "allow", 1)


@pytest.mark.parametrize(
    ("capability", "name"),
    [("CAP_SYS_ADMIN", "unshare"), ("CAP_SYS_ADMIN", "clone3"), ("CAP_SYSLOG", "syslog"), ("CAP_SYS_NICE", "mbind")],
)
def test_a_capability_opens_its_calls_and_no_keys(capability, name):
    ruled = rulings(capability)
    assert ruled[name] == "allow"
    assert ruled["keyctl"] == 1


def test_two_capabilities_for_one_call_make_one_rule():
    assert rulings("CAP_SYS_ADMIN", "CAP_SYSLOG")["syslog"] == "allow"


@pytest.mark.parametrize(("machine", "index"), [("x86_64", 0), ("s390x", 1)])
def test_processes_are_made_by_all_namespaces_by_none(machine, index):
    rules = [
        rule
        for rule in compile_profile(narrowed(SHIPPED), frozenset(), machine)["syscalls"]
        if rule["names"] == ["clone"]
    ]
    assert {rule["args"][0]["index"] for rule in rules} == {index}

    def ruling(flags):
        matching = [rule for rule in rules if flags & rule["args"][0]["value"] == rule["args"][0]["valueTwo"]]
        return {rule["action"] for rule in matching}

    assert ruling(0x11) == {"SCMP_ACT_ALLOW"}
    for flag in (0x00020000, 0x10000000, 0x40000000, 0x7C020000):
        assert ruling(flag) == {"SCMP_ACT_ERRNO"}
