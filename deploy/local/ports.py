"""Free ports of the loopback interface."""

import random
import socket

LOOPBACK = "127.0.0.1"
LISTENED_AT = range(12_000, 32_768)  # from there on Linux gives ports to outgoing connections


def is_free(port: int) -> bool:
    """True when nobody listens there; what was just closed does not count."""
    with socket.socket() as caller:
        caller.settimeout(1)
        if caller.connect_ex((LOOPBACK, port)) == 0:
            return False
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """None of those that outgoing connections are given: one of these may take it while whoever listens there restarts.

    Raises ``OSError`` where there is none.
    """
    for port in random.sample(LISTENED_AT, len(LISTENED_AT)):
        if is_free(port):
            return port
    raise OSError(f"no port of {LISTENED_AT.start} to {LISTENED_AT.stop - 1} is free")
