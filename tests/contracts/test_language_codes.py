"""One code for each language at every border."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.examples import examples
from contracts.language_codes import get_language, normalise_tag, normalise_tags
from contracts.profiles import ProfileChanged

tags = st.from_regex(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}\Z")


class TestLanguageCodes:
    @given(tags)
    def test_a_normalised_tag_stays_and_names_the_same(self, tag: str) -> None:
        once = normalise_tag(tag)
        assert normalise_tag(once) == once
        assert get_language(once) == get_language(tag)
        assert once.partition("-")[2] == tag.partition("-")[2]

    def test_spellings_of_one_language_are_accepted_once(self) -> None:
        assert normalise_tags(["eng", "en", "eng-GB", "nb", "no", "iw", "he"]) == ("en", "en-GB", "no", "he")

    def test_records_of_former_versions_are_read_with_one_code(self) -> None:
        record = examples()[ProfileChanged].model_dump(mode="json") | {"languages": ["iw", "eng", "en"]}
        assert ProfileChanged.model_validate(record).languages == ("he", "en")
