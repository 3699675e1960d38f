"""How `viceversa imports` says what an import waits for."""

from typing import Any

import pytest

from cli.imports import describe_state

IMPORT = {"state": "received", "waits_behind": 0, "waits_for": None, "failure": None}


class TestImportStates:
    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({}, "received"),
            ({"waits_behind": 2, "waits_for": "i1"}, "waits behind 2, first i1"),
            ({"waits_behind": 1}, "waits behind 1"),
            ({"waits_behind": None}, "received"),
            ({"state": "waiting_for_release"}, "waits for another admin to release it"),
            ({"state": "failed", "failure": "no_rows"}, "failed: no_rows"),
            ({"state": "cancelled"}, "cancelled"),
        ],
    )
    def test_a_state_says_what_it_waits_for(self, fields: dict[str, Any], text: str) -> None:
        assert describe_state({**IMPORT, **fields}) == text
