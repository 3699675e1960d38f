"""The taxonomy: one meaning for each word, and part marks for related topics."""

import pytest
from pydantic import ValidationError

from contracts.taxonomy import PARENT, SIBLING, SubjectTopic, Taxonomy, load, related, resolve


def test_id_name_and_aliases_resolve_in_any_case() -> None:
    assert resolve("generative-ai") == resolve("Generative  AI") == resolve("ChatGPT") == "generative-ai"
    assert resolve("DATA & AI") == "data-ai"
    assert resolve("underwater basket weaving") is None


def test_every_topic_is_found_by_its_own_name() -> None:
    taxonomy = load()
    assert len(taxonomy.topics) >= 150
    assert all(taxonomy.resolve(topic.name) == topic.id for topic in taxonomy.topics)


def test_related_topics_earn_part_marks_and_unrelated_ones_none() -> None:
    assert related("python", "python") == 1
    assert related("prompt-writing", "generative-ai") == related("generative-ai", "prompt-writing") == PARENT
    assert related("python", "sql") == SIBLING
    assert related("python", "negotiation") == 0
    assert related("data-ai", "software") == 0, "areas are not related only since both are areas"
    assert related("no-such-topic", "python") == 0


def test_an_unknown_topic_is_named_by_its_id() -> None:
    assert load().name("sea-shanties") == "sea shanties"


@pytest.mark.parametrize(
    "topics",
    [
        (SubjectTopic(id="a", name="A"), SubjectTopic(id="a", name="B")),
        (SubjectTopic(id="a", name="A", parent="b"),),
        (SubjectTopic(id="a", name="A", parent="b"), SubjectTopic(id="b", name="B", parent="a")),
        (SubjectTopic(id="a", name="Same"), SubjectTopic(id="b", name="B", aliases=("same",))),
    ],
    ids=["same id twice", "unknown parent", "circle", "one word for two topics"],
)
def test_a_contradictory_taxonomy_is_refused(topics: tuple[SubjectTopic, ...]) -> None:
    with pytest.raises(ValidationError):
        Taxonomy(topics=topics)
