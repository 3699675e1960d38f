"""Private advice for a person whose own answers are low.

During the warm-up, low answers bring help and never suggest another partner, because most people need a while to get
used to each other. The advice depends on the reader's own answers only, and nobody else can read it.
"""

from collections.abc import Mapping

from services.feedback.domain.questions import LOW_RATING, Questions, translate


def low_items(questions: Questions, answers: Mapping[str, int | None]) -> tuple[str, ...]:
    """The ids of items with a low answer. The answers to reversed items are turned round first."""
    low = []
    for id, answer in answers.items():
        item = questions.by_id.get(id)
        coded = item.coded_answer(answer) if item is not None and item.care else None
        if coded is not None and coded <= LOW_RATING:
            low.append(id)
    return tuple(sorted(low))


def advice_for(
    questions: Questions,
    answers: Mapping[str, int | None],
    language: str,
    contact: str | None,
    *,
    warming_up: bool,
) -> list[str]:
    """Sentences for the person who answered, without figures and without blame. Empty when no answer is low."""
    ids = low_items(questions, answers)
    if not ids:
        return []
    framing = questions.around
    opening = translate(framing["warming_up" if warming_up else "later"], language)
    sentences = [opening, *(translate(questions.by_id[id].advice, language) for id in ids)]
    if contact:
        sentences.append(translate(framing["contact"], language).format(contact=contact))
    return [*sentences, translate(framing["between_us"], language)]
