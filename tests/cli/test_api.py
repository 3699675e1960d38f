"""A refusal of a service, as the command line tells it."""

import httpx

from cli.api import build_failure


class TestFailure:
    def test_each_rejected_field_is_named(self) -> None:
        problem = {
            "title": "Unprocessable Content",
            "detail": "Some fields of the request are not valid.",
            "errors": [
                {"location": "body.settings.rules.*", "message": "is not a field; did you mean max_level_gap?"},
                {"location": "body.settings.starts", "message": "must be a date, such as 2026-03-01"},
            ],
        }
        message = build_failure("matcher", httpx.Response(422, json=problem)).message
        assert message.splitlines()[1:] == [
            "  body.settings.rules.*: is not a field; did you mean max_level_gap?",
            "  body.settings.starts: must be a date, such as 2026-03-01",
        ]

    def test_an_answer_of_another_shape_is_told_as_it_is(self) -> None:
        for content in (b"<h1>Bad Gateway</h1>", b"[]", b'{"errors": [1]}', b'{"errors": 1}'):
            assert "502" in build_failure("matcher", httpx.Response(502, content=content)).message
