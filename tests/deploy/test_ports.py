"""Ports for whoever listens on this machine."""

import socket
from pathlib import Path

import pytest

from deploy.local import ports

GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_free_port_is_none_that_an_outgoing_connection_could_take() -> None:
    """A service that was killed came back at another port, as a connection had taken its own; nobody looked there."""
    if not GIVEN_AWAY.exists():
        pytest.skip("this system does not say which ports it gives to outgoing connections")
    first = int(GIVEN_AWAY.read_text(encoding="ascii").split()[0])
    assert all(ports.any_free() < first for _ in range(20))


def test_a_port_at_which_somebody_listens_is_not_free() -> None:
    port = ports.any_free()
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, port))
        listener.listen()
        assert not ports.is_free(port)
    assert ports.is_free(port)
