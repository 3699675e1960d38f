"""A service that stops is first not ready, still answers, and fails no request."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from deploy.local import process
from tests.journey.conditions import wait_until
from tests.journey.stack import Stack

CLIENTS = 4
DRAIN_S = 2


class TestDrain:
    def test_no_request_fails_while_a_service_stops(self, stack: Stack) -> None:
        url = stack.replica("profiles-drained", "profiles", VICEVERSA_DRAIN_S=str(DRAIN_S))
        headers = {"Authorization": f"Bearer {stack.token(None, 'admin')}"}
        running = process.alive("profiles-drained", stack.data)
        assert running is not None
        all_answered = threading.Barrier(CLIENTS + 1)

        def ask_until_closed() -> list[int]:
            """The statuses of all answers, until the socket is closed."""
            statuses: list[int] = []
            with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
                while True:
                    try:
                        statuses.append(client.get("/members", params={"limit": 5}).status_code)
                    except httpx.TransportError:
                        return statuses
                    if len(statuses) == 1:
                        all_answered.wait()

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(ask_until_closed) for _ in range(CLIENTS)]
            all_answered.wait()
            os.kill(running.pid, signal.SIGTERM)
            wait_until(lambda: not stack.is_ready("profiles-drained"), "the service reports itself not ready")
            assert httpx.get(f"{url}/members", headers=headers, trust_env=False).status_code == httpx.codes.OK
            answers = [client.result() for client in clients]
        assert {status for statuses in answers for status in statuses} == {httpx.codes.OK}
        wait_until(lambda: not running.running, "the process has ended")
