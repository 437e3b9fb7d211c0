"""Sockets of the service manager: who they are for, what they are called."""

import socket

from enxame.sd_listen import HandedOver, handed_over


def test_sockets_are_numbered_from_three_and_named() -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "enxame.socket:looks", "PATH": "/bin"}
    assert handed_over(environment, 7) == [HandedOver("enxame.socket", 3), HandedOver("looks", 4)]
    assert environment == {"PATH": "/bin"}


def test_sockets_of_another_process_are_not_taken() -> None:
    assert handed_over({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, 7) == []


def test_without_systemd_there_is_none() -> None:
    assert handed_over({}, 7) == []


def test_sockets_without_names_are_unknown() -> None:
    assert handed_over({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7) == [HandedOver("", 3)]
    assert handed_over({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, 7)[1].name == "unknown"


def test_an_opened_socket_is_not_for_children() -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.set_inheritable(True)
        opened = HandedOver("x", given.detach()).open()
        assert not opened.get_inheritable()
        opened.close()
