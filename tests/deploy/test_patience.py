"""One environment variable stretches all time limits that only detect a hang."""

import pytest

from tests.patience import VARIABLE, patience


class TestPatience:
    def test_a_limit_is_ten_times_the_need_of_a_quiet_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE, raising=False)
        assert patience(3) == 30

    def test_the_variable_stretches_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, "2.5")
        assert patience(3) == 75

    @pytest.mark.parametrize("wrong", ["", "much", "0", "-1", "inf", "nan"])
    def test_an_invalid_factor_is_named(self, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=VARIABLE):
            patience(3)
