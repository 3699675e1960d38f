"""A receipt can be recomputed from its own data, detects every change of them, and reveals no private wish."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.profiles import ProfileChanged, Style
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit.score import Fit, compute_fit
from services.matcher.domain.pairings.pairing import PairingPlan
from services.matcher.domain.receipts import receipt as receipts
from services.matcher.domain.receipts.explanation import explain_factors
from services.matcher.domain.receipts.receipt import (
    MatchingBasis,
    MemberSnapshot,
    Receipt,
    ReceiptSubject,
    RunnerUp,
    Selection,
    has_profile_changed,
    hash_taxonomy,
    hash_text,
    issue_receipt,
    verify_receipt,
)
from tests.matcher.builders import NOW, PROGRAMME, TAXONOMY, TODAY, any_settings, member, person, profiles, settings
from tests.matcher.domain.test_seat_ledger import plan

HASH = hash_taxonomy(TAXONOMY)


def receipt(
    senior: ProfileChanged,
    junior: ProfileChanged,
    under: ProgrammeSettings | None = None,
    sequences: tuple[int, int] = (1, 1),
    **more: Any,
) -> Receipt:
    basis = MatchingBasis(PROGRAMME, 3, under or settings(), TAXONOMY, HASH, TODAY)
    snapshot = [
        MemberSnapshot(member(answer), sequence) for answer, sequence in zip((senior, junior), sequences, strict=True)
    ]
    return issue_receipt(ReceiptSubject("r", "p", 1, "round"), basis, snapshot[0], snapshot[1], NOW, "salt", **more)


OTHERS = ("s", "j", "elsewhere")
PAIRS = st.tuples(profiles("senior", "s", OTHERS), profiles("junior", "j", OTHERS))


class TestReceiptRecomputation:
    @pytest.mark.parametrize("name", ["kept_receipt.json", "kept_receipt_2.json"])
    def test_stored_receipt_of_each_algorithm_still_verifies(self, name: str) -> None:
        """On failure the same inputs give another result: raise ``ALGORITHM_VERSION`` and store a new receipt."""
        stored = Receipt.model_validate_json((Path(__file__).parent / name).read_text())
        verification = verify_receipt(stored, TAXONOMY)
        assert verification.is_verified
        assert set(verification.differs) <= {"taxonomy"}, "new topics may join the taxonomy without changing this pair"

    @run_with(max_examples=80, deadline=None)
    @given(PAIRS, any_settings())
    def test_any_receipt_verifies_after_storage(
        self, pair: tuple[ProfileChanged, ProfileChanged], under: ProgrammeSettings
    ) -> None:
        issued = receipt(*pair, under)
        assert issued.fit == compute_fit(member(pair[0]), member(pair[1]), under, TAXONOMY, TODAY)
        stored = Receipt.model_validate(json.loads(json.dumps(issued.model_dump(mode="json"))))
        assert stored == issued
        verification = verify_receipt(stored, TAXONOMY)
        assert verification.is_verified
        assert set(verification.agrees) == set(receipts.VERIFICATION_CHECKS)

    @run_with(max_examples=150, deadline=None)
    @given(PAIRS, st.data())
    def test_any_changed_byte_of_the_inputs_fails(
        self, pair: tuple[ProfileChanged, ProfileChanged], data: st.DataObject
    ) -> None:
        issued = receipt(*pair)
        index = data.draw(st.integers(0, len(issued.inputs) - 1))
        sign = data.draw(st.sampled_from('0123456789abcxyz"{}[],:- '))
        assume(issued.inputs[index] != sign)
        changed = issued.model_copy(update={"inputs": issued.inputs[:index] + sign + issued.inputs[index + 1 :]})
        verification = verify_receipt(changed, TAXONOMY)
        assert not verification.is_verified
        assert verification.differs == ("inputs",)

    @pytest.mark.parametrize(
        ("change", "differs"),
        [
            ({"fit": {"score": 0.9}}, "fit"),
            ({"fit": {"senior_benefit": 0.9}}, "fit"),
            ({"reasons": {"senior": ["You like each other."], "junior": []}}, "reasons"),
            ({"focus": []}, "reasons"),
            ({"hashes": {"senior": "0"}}, "senior"),
            ({"hashes": {"junior": "0"}}, "junior"),
            ({"hashes": {"settings": "0"}}, "settings"),
        ],
    )
    def test_names_the_changed_part(self, change: dict[str, Any], differs: str) -> None:
        before = receipt(person("s"), person("j", "junior")).model_dump(mode="json")
        for name, value in change.items():
            before[name] = {**before[name], **value} if isinstance(value, dict) else value
        verification = verify_receipt(Receipt.model_validate(before), TAXONOMY)
        assert not verification.is_verified
        assert verification.differs == (differs,)

    def test_replaced_inputs_with_their_hash_show_in_the_result(self) -> None:
        issued = receipt(person("s"), person("j", "junior"))
        forged = issued.inputs.replace('"level":"teach"', '"level":"explain"')
        assert forged != issued.inputs
        hashes = issued.hashes.model_copy(update={"inputs": hash_text(forged)})
        verification = verify_receipt(issued.model_copy(update={"inputs": forged, "hashes": hashes}), TAXONOMY)
        assert verification.differs == ("senior", "fit", "reasons")

    def test_unreadable_inputs_leave_other_checks_unknown(self) -> None:
        issued = receipt(person("s"), person("j", "junior"))
        hashes = issued.hashes.model_copy(update={"inputs": hash_text("{}")})
        verification = verify_receipt(issued.model_copy(update={"inputs": "{}", "hashes": hashes}), TAXONOMY)
        assert not verification.is_verified
        assert (verification.agrees, verification.unknown) == (("inputs",), receipts.VERIFICATION_CHECKS[1:])

    def test_newer_taxonomy_alone_differs_and_still_verifies(self) -> None:
        fewer = TAXONOMY.model_copy(update={"topics": TAXONOMY.topics[:0]})
        verification = verify_receipt(receipt(person("s"), person("j", "junior", languages=("en",))), TAXONOMY)
        assert verification.differs == ()
        other = verify_receipt(receipt(person("s", offers={}), person("j", "junior", offers={})), fewer)
        assert other.differs == ("taxonomy",)
        assert other.is_verified


class TestReceiptPrivacy:
    def test_names_no_third_person(self) -> None:
        senior = person("s", line=("boss",), evaluators=("judge",), avoid=("enemy",))
        text = receipt(senior, person("j", "junior", line=("chief",))).model_dump_json()
        assert not [name for name in ("boss", "judge", "enemy", "chief") if name in text]

    @run_with(max_examples=60, deadline=None)
    @given(PAIRS, st.lists(st.sampled_from(["a", "b", "j"]), max_size=3).map(tuple))
    def test_private_wish_changes_no_receipt(
        self, pair: tuple[ProfileChanged, ProfileChanged], wish: tuple[str, ...]
    ) -> None:
        wishing = pair[0].model_copy(update={"avoid": wish})
        assert receipt(wishing, pair[1]) == receipt(*pair)

    def test_private_wish_is_no_visible_change(self) -> None:
        issued = receipt(person("s"), person("j", "junior"))
        assert not has_profile_changed(issued, "senior", person("s"))
        assert not has_profile_changed(
            issued, "senior", person("s", avoid=("j",), line=("boss",), employment="leaving")
        )
        assert has_profile_changed(issued, "senior", person("s", offers={"negotiation": "explain"}))
        assert has_profile_changed(issued, "junior", None)

    def test_salted_hash_resists_trying_every_answer(self) -> None:
        """The same profile has another hash in every receipt."""
        senior, junior = member(person("s", style=Style(candour=1.0))), member(person("j", "junior"))
        basis = MatchingBasis(PROGRAMME, 3, settings(), TAXONOMY, HASH, TODAY)
        answer, other = (
            issue_receipt(
                ReceiptSubject("r", "p", 1, "round"),
                basis,
                MemberSnapshot(senior, 1),
                MemberSnapshot(junior, 1),
                NOW,
                salt,
            )
            for salt in ("1", "2")
        )
        assert answer.hashes.senior != other.hashes.senior
        assert answer.fit == other.fit


class TestReceiptIssue:
    def test_vectorised_fit_within_tolerance_is_the_same_fit(self) -> None:
        now = receipt(person("s"), person("j", "junior")).fit
        for off, stored in ((4e-8, False), (1e-4, True)):
            chosen = now.model_copy(update={"score": now.score + off})
            issued = receipt(person("s"), person("j", "junior"), chosen_with=chosen)
            assert (issued.chosen_with is not None) == stored

    def test_fit_of_the_round_is_stored_only_if_it_differs(self) -> None:
        pair = person("s"), person("j", "junior")
        issued = receipt(*pair)
        assert receipt(*pair, chosen_with=issued.fit).chosen_with is None
        before = issued.fit.model_copy(update={"score": issued.fit.score - 0.1})
        assert receipt(*pair, chosen_with=before).chosen_with == before

    def test_stored_plan_has_no_selection(self) -> None:
        """Only the receipt names a runner-up, so that erasing the runner-up changes only the receipt."""
        chosen = Selection(runner_up={"senior": RunnerUp(member_id="third", score=0.5)})
        stored = plan("p", "s", "j").model_copy(update={"chosen": chosen})
        assert "third" not in stored.model_dump_json()
        assert PairingPlan.model_validate(stored.model_dump()).chosen is None


class TestReceiptExplanation:
    @pytest.mark.parametrize(
        ("benefits", "texts"),
        [
            ((0.7, 0.4), ("give you a great deal", "you can give a good part")),
            ((0.2, 0.6), ("give you something", "you can give a great deal")),
        ],
    )
    def test_factors_are_told_from_the_view_of_each_side(
        self, benefits: tuple[float, float], texts: tuple[str, str]
    ) -> None:
        issued = receipt(person("s"), person("j", "junior"))
        figures = Fit(
            score=0.5, senior_benefit=benefits[0], junior_benefit=benefits[1], compatibility=0.5, perspective=0.5
        )
        factors = explain_factors(issued.model_copy(update={"fit": figures}), "senior")[0]
        assert all(part in factors for part in texts)
        assert not any(sign.isdigit() for sign in " ".join(explain_factors(issued, "junior")))
