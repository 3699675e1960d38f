"""A receipt can be recomputed from what it keeps, notices every change of that, and tells of no private wish."""

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
    known = [MemberSnapshot(member(one), sequence) for one, sequence in zip((senior, junior), sequences, strict=True)]
    return issue_receipt(ReceiptSubject("r", "p", 1, "round"), basis, known[0], known[1], NOW, "salt", **more)


def test_what_a_round_computes_for_many_at_once_is_no_other_fit_for_a_hair() -> None:
    now = receipt(person("s"), person("j", "junior")).fit
    for off, kept in ((4e-8, False), (1e-4, True)):
        chosen = now.model_copy(update={"score": now.score + off})
        found = receipt(person("s"), person("j", "junior"), chosen_with=chosen)
        assert (found.chosen_with is not None) == kept


def test_a_receipt_that_was_kept_with_this_algorithm_is_computed_alike_today() -> None:
    """If this fails, the same inputs give another result: raise ``ALGORITHM_VERSION`` and keep a new receipt."""
    kept = Receipt.model_validate_json((Path(__file__).parent / "kept_receipt.json").read_text())
    verification = verify_receipt(kept, TAXONOMY)
    assert verification.is_verified
    assert set(verification.differs) <= {"taxonomy"}, "new topics may join the taxonomy without changing this pair"


OTHERS = ("s", "j", "elsewhere")
PAIRS = st.tuples(profiles("senior", "s", OTHERS), profiles("junior", "j", OTHERS))


@run_with(max_examples=80, deadline=None)
@given(PAIRS, any_settings())
def test_any_receipt_verifies_also_after_it_was_kept(
    pair: tuple[ProfileChanged, ProfileChanged], under: ProgrammeSettings
) -> None:
    found = receipt(*pair, under)
    assert found.fit == compute_fit(member(pair[0]), member(pair[1]), under, TAXONOMY, TODAY)
    kept = Receipt.model_validate(json.loads(json.dumps(found.model_dump(mode="json"))))
    assert kept == found
    verification = verify_receipt(kept, TAXONOMY)
    assert verification.is_verified
    assert set(verification.agrees) == set(receipts.VERIFICATION_CHECKS)


@run_with(max_examples=150, deadline=None)
@given(PAIRS, st.data())
def test_any_changed_byte_of_the_inputs_does_not(
    pair: tuple[ProfileChanged, ProfileChanged], data: st.DataObject
) -> None:
    found = receipt(*pair)
    place = data.draw(st.integers(0, len(found.inputs) - 1))
    sign = data.draw(st.sampled_from('0123456789abcxyz"{}[],:- '))
    assume(found.inputs[place] != sign)
    changed = found.model_copy(update={"inputs": found.inputs[:place] + sign + found.inputs[place + 1 :]})
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
def test_what_was_changed_is_named(change: dict[str, Any], differs: str) -> None:
    before = receipt(person("s"), person("j", "junior")).model_dump(mode="json")
    for name, value in change.items():
        before[name] = {**before[name], **value} if isinstance(value, dict) else value
    verification = verify_receipt(Receipt.model_validate(before), TAXONOMY)
    assert not verification.is_verified
    assert verification.differs == (differs,)


def test_inputs_that_were_exchanged_together_with_their_hash_show_in_what_they_give() -> None:
    found = receipt(person("s"), person("j", "junior"))
    forged = found.inputs.replace('"level":"teach"', '"level":"explain"')
    assert forged != found.inputs
    hashes = found.hashes.model_copy(update={"inputs": hash_text(forged)})
    verification = verify_receipt(found.model_copy(update={"inputs": forged, "hashes": hashes}), TAXONOMY)
    assert verification.differs == ("senior", "fit", "reasons")


def test_inputs_that_cannot_be_read_leave_everything_else_unknown() -> None:
    found = receipt(person("s"), person("j", "junior"))
    hashes = found.hashes.model_copy(update={"inputs": hash_text("{}")})
    verification = verify_receipt(found.model_copy(update={"inputs": "{}", "hashes": hashes}), TAXONOMY)
    assert not verification.is_verified
    assert (verification.agrees, verification.unknown) == (("inputs",), receipts.VERIFICATION_CHECKS[1:])


def test_another_taxonomy_alone_is_told_and_takes_nothing_from_it() -> None:
    fewer = TAXONOMY.model_copy(update={"topics": TAXONOMY.topics[:0]})
    verification = verify_receipt(receipt(person("s"), person("j", "junior", languages=("en",))), TAXONOMY)
    assert verification.differs == ()
    other = verify_receipt(receipt(person("s", offers={}), person("j", "junior", offers={})), fewer)
    assert other.differs == ("taxonomy",)
    assert other.is_verified


def test_nobody_else_is_named_in_what_is_kept() -> None:
    senior = person("s", line=("boss",), evaluators=("judge",), avoid=("enemy",))
    text = receipt(senior, person("j", "junior", line=("chief",))).model_dump_json()
    assert not [name for name in ("boss", "judge", "enemy", "chief") if name in text]


@run_with(max_examples=60, deadline=None)
@given(PAIRS, st.lists(st.sampled_from(["a", "b", "j"]), max_size=3).map(tuple))
def test_in_two_worlds_that_differ_in_a_private_wish_the_receipts_are_equal(
    pair: tuple[ProfileChanged, ProfileChanged], wish: tuple[str, ...]
) -> None:
    wishing = pair[0].model_copy(update={"avoid": wish})
    assert receipt(wishing, pair[1]) == receipt(*pair)


def test_a_later_private_wish_does_not_look_like_a_change_but_a_change_does() -> None:
    found = receipt(person("s"), person("j", "junior"))
    assert not has_profile_changed(found, "senior", person("s"))
    assert not has_profile_changed(found, "senior", person("s", avoid=("j",), line=("boss",), employment="leaving"))
    assert has_profile_changed(found, "senior", person("s", offers={"negotiation": "explain"}))
    assert has_profile_changed(found, "junior", None)


def test_a_hash_tells_nothing_to_whoever_tries_every_answer() -> None:
    """The same profile has another hash in every receipt."""
    senior, junior = member(person("s", style=Style(candour=1.0))), member(person("j", "junior"))
    basis = MatchingBasis(PROGRAMME, 3, settings(), TAXONOMY, HASH, TODAY)
    one, other = (
        issue_receipt(
            ReceiptSubject("r", "p", 1, "round"), basis, MemberSnapshot(senior, 1), MemberSnapshot(junior, 1), NOW, salt
        )
        for salt in ("1", "2")
    )
    assert one.hashes.senior != other.hashes.senior
    assert one.fit == other.fit


def test_the_fit_by_which_a_round_chose_is_kept_only_where_it_was_another() -> None:
    pair = person("s"), person("j", "junior")
    found = receipt(*pair)
    assert receipt(*pair, chosen_with=found.fit).chosen_with is None
    before = found.fit.model_copy(update={"score": found.fit.score - 0.1})
    assert receipt(*pair, chosen_with=before).chosen_with == before


def test_a_plan_is_kept_without_how_it_was_chosen() -> None:
    """A runner-up who is forgotten stands in the receipt alone."""
    chosen = Selection(runner_up={"senior": RunnerUp(member_id="third", score=0.5)})
    kept = plan("p", "s", "j").model_copy(update={"chosen": chosen})
    assert "third" not in kept.model_dump_json()
    assert PairingPlan.model_validate(kept.model_dump()).chosen is None


@pytest.mark.parametrize(
    ("benefits", "words"),
    [
        ((0.7, 0.4), ("give you a great deal", "you can give a good part")),
        ((0.2, 0.6), ("give you something", "you can give a great deal")),
    ],
)
def test_the_parts_are_told_each_side_from_its_own_view(benefits: tuple[float, float], words: tuple[str, str]) -> None:
    found = receipt(person("s"), person("j", "junior"))
    figures = Fit(score=0.5, senior_benefit=benefits[0], junior_benefit=benefits[1], compatibility=0.5, perspective=0.5)
    told = explain_factors(found.model_copy(update={"fit": figures}), "senior")[0]
    assert all(part in told for part in words)
    assert not any(sign.isdigit() for sign in " ".join(explain_factors(found, "junior")))
