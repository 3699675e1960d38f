"""The envelope survives the way through a record's headers, and nothing malformed gets in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.envelope import EPOCH, Envelope, Id, Instant

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
ENVELOPES = st.builds(
    Envelope,
    id=_TEXTS,
    type=_TEXTS,
    source=_TEXTS,
    subject=_TEXTS,
    time=st.datetimes(
        datetime(1, 1, 2),  # noqa: DTZ001
        datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))]),
    ).map(TypeAdapter(Instant).validate_python),
    sequence=st.integers(0, 2**63 - 1),
    correlationid=_TEXTS,
    causationid=st.none() | _TEXTS,
    traceparent=st.none() | _TEXTS,
)
GOOD = Envelope(
    id="e1",
    type="mentoring.pairing.formed.v1",
    source="/viceversa/matcher",
    subject="p1",
    time=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    sequence=EPOCH + 5,
    correlationid="p1",
)


@given(ENVELOPES)
def test_an_envelope_round_trips_through_headers(envelope: Envelope) -> None:
    assert Envelope.from_headers(envelope.headers()) == envelope


@given(ENVELOPES, st.lists(st.tuples(_TEXTS.map(lambda name: f"x-{name}"), st.binary())))
def test_unknown_headers_are_ignored_whatever_their_bytes(envelope: Envelope, more: list[tuple[str, bytes]]) -> None:
    assert Envelope.from_headers([*more, *envelope.headers()]) == envelope


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2))
def test_sequences_sort_as_text(sequences: list[int]) -> None:
    texts = [dict(replace(GOOD, sequence=n).headers())["ce_sequence"] for n in sequences]
    assert sorted(texts) == [text for _, text in sorted(zip(sequences, texts, strict=True))]


def test_the_headers_are_those_of_cloudevents_in_binary_mode() -> None:
    assert dict(GOOD.headers()) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e1",
        "ce_type": b"mentoring.pairing.formed.v1",
        "ce_source": b"/viceversa/matcher",
        "ce_subject": b"p1",
        "ce_time": b"2026-03-02T09:30:00.000Z",
        "ce_dataschema": b"urn:viceversa:schema:mentoring.pairing.formed.v1",
        "ce_sequence": b"00000001099511627781",
        "ce_correlationid": b"p1",
        "content-type": b"application/json",
    }


REQUIRED = (
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_subject",
    "ce_time",
    "ce_sequence",
    "ce_correlationid",
)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name.removeprefix("ce_")):
        Envelope.from_headers([header for header in GOOD.headers() if header[0] != name])


@pytest.mark.parametrize("name", [*REQUIRED, "ce_causationid", "traceparent"])
def test_a_header_that_is_not_utf_8_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the contract
        Envelope.from_headers([*GOOD.headers(), (name, b"\xff\xfe")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", b"0.3"),
        ("ce_sequence", b"-1"),
        ("ce_sequence", b"1.0"),
        ("ce_sequence", b"1_0"),
        ("ce_sequence", b"99999999999999999999"),
        ("ce_sequence", b""),
        ("ce_id", b""),
        ("ce_id", b"x" * 65),
        ("ce_subject", b""),
        ("ce_time", b"yesterday"),
        ("ce_time", b"2026-03-02T09:30:00"),
        ("ce_time", b"0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_malformed_header_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the contract
        Envelope.from_headers([*GOOD.headers(), (name, value)])


def test_what_is_refused_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ValidationError) as refused:
        Envelope.from_headers([*GOOD.headers(), ("ce_subject", b"someone@halden.example" * 9)])
    assert "someone" not in str(refused.value)


def test_an_instant_equals_what_was_written_of_it() -> None:
    adapter: TypeAdapter[datetime] = TypeAdapter(Instant)
    value = adapter.validate_python(datetime(2026, 3, 2, 9, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=2))))
    assert adapter.dump_json(value) == b'"2026-03-02T07:30:00.123Z"'
    assert adapter.validate_json(adapter.dump_json(value)) == value


@pytest.mark.parametrize("text", ["", "Anna Berg", "anna@halden.example", "a\n", "x" * 65])
def test_an_id_cannot_hold_a_name_or_an_address(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Id).validate_python(text)
