"""How `status` shows the metrics of a service and the report of a programme."""

import pytest

from cli import status
from cli.console import REFUSED, Failure
from cli.status import STEP_TEXTS, PairFunnel, ServiceFigures

METRICS = """
# TYPE viceversa_consumer_lag gauge
viceversa_consumer_lag{service="matcher",topic="profiles.v1",partition="0"} 2
viceversa_consumer_lag{service="matcher",topic="profiles.v1",partition="1"} 3
# TYPE viceversa_outbox_oldest_seconds gauge
viceversa_outbox_oldest_seconds{collection="pairings"} 1.26
viceversa_outbox_oldest_seconds{collection="rounds"} 0.5
# TYPE viceversa_due gauge
viceversa_due{collection="pairings",clock="due"} 40
# TYPE viceversa_overdue gauge
viceversa_overdue{collection="pairings",clock="due"} 3
viceversa_overdue{collection="pairings",clock="lease"} 0
viceversa_overdue{collection="rounds",clock="lease"} 1
# TYPE viceversa_notifications_ended counter
viceversa_notifications_ended_total{purpose="partners",channel="email",state="sent",reason="none"} 7
viceversa_notifications_ended_created{purpose="partners",channel="email",state="sent",reason="none"} 1.7e9
"""


class TestServiceFigures:
    def test_metrics_are_summed_and_overdue_kinds_named(self) -> None:
        assert status.parse_figures(METRICS) == ServiceFigures(
            lag=5,
            oldest_s=1.3,
            overdue=4,
            overdue_by={"pairings due": 3, "rounds lease": 1},
            business={"notifications_ended_total partners email sent none": 7},
        )

    def test_overdue_items_are_shown_in_words(self, capsys: pytest.CaptureFixture[str]) -> None:
        status.print_processes([], [], {"matcher": status.parse_figures(METRICS), "feedback": None})
        output = capsys.readouterr().out
        assert "overdue in matcher: 3 pairings whose time has come" in output
        assert "overdue in matcher: 1 rounds left unfinished" in output


class TestPairFunnels:
    def test_a_number_too_small_to_publish_is_not_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        status.print_funnels(
            [PairFunnel("fresh-eyes", 5, {**dict.fromkeys(STEP_TEXTS, 0), "proposed": 12, "lapsed": None})]
        )
        lines = capsys.readouterr().out.splitlines()
        assert next(line for line in lines if line.startswith("proposed")).split()[-1] == "12"
        assert next(line for line in lines if line.startswith("did not come about")).endswith("fewer than 5")

    def test_many_programmes_are_shown_in_several_tables(self, capsys: pytest.CaptureFixture[str]) -> None:
        status.print_funnels([PairFunnel(f"p{number}", 5, dict.fromkeys(STEP_TEXTS, number)) for number in range(6)])
        assert capsys.readouterr().out.count("pairs  ") == 2

    def test_a_refusal_is_left_out_but_no_answer_is_an_error(self) -> None:
        def refused(_path: str) -> None:
            raise Failure("not yours", code=REFUSED)

        def silent(_path: str) -> None:
            raise Failure("nothing answers")

        assert status._get_unless_refused(refused, "/x") is None
        with pytest.raises(Failure):
            status._get_unless_refused(silent, "/x")
