"""A stable matching by `matching`: reads ``{seniors, juniors}`` as JSON, writes ``{pairs, seconds, making}``.

It runs in that package's own environment. Each person has a list of positions on the other side, the dearest first,
with everybody whom they may be paired with and nobody else. Such incomplete lists are hospitals and residents with
one bed each. ``seconds`` is the solving alone; ``making`` is the game's construction, which copies all players deeply
and recurses beyond Python's usual limit.
"""

import json
import sys
import threading
from time import perf_counter

from matching.games import HospitalResident  # type: ignore[import-not-found]

STACK = 512 * 2**20
DEPTH = 10**6


finished = threading.Event()


def main() -> None:
    question = json.load(sys.stdin)
    residents = {f"j{n}": [f"s{other}" for other in liked] for n, liked in enumerate(question["juniors"]) if liked}
    hospitals = {f"s{n}": [f"j{other}" for other in liked] for n, liked in enumerate(question["seniors"]) if liked}
    start = perf_counter()
    game = HospitalResident.create_from_dictionaries(residents, hospitals, dict.fromkeys(hospitals, 1))
    made = perf_counter()
    matching = game.solve()
    solved = perf_counter()
    pairs = [
        (int(hospital.name[1:]), int(resident.name[1:])) for hospital, chosen in matching.items() for resident in chosen
    ]
    json.dump({"pairs": pairs, "seconds": solved - made, "making": made - start}, sys.stdout)
    finished.set()


sys.setrecursionlimit(DEPTH)
threading.stack_size(STACK)
thread = threading.Thread(target=main)
thread.start()
thread.join()
sys.exit(not finished.is_set())
