"""One variable stretches every limit that only catches a hang."""

import pytest

from tests.patience import VARIABLE, patience


def test_a_limit_is_ten_times_what_a_quiet_machine_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert patience(3) == 30


def test_the_variable_stretches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2.5")
    assert patience(3) == 75


@pytest.mark.parametrize("wrong", ["", "much", "0", "-1", "inf", "nan"])
def test_what_is_no_factor_is_named(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(VARIABLE, wrong)
    with pytest.raises(ValueError, match=VARIABLE):
        patience(3)
