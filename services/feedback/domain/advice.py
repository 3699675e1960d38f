"""What is said, in private, to somebody whose own answers are low.

In the warm-up low answers bring help and never the thought of somebody else: most people take a while to warm up to
each other. What is said depends on the reader's own answers alone, and nobody else can read it.
"""

from collections.abc import Mapping

from services.feedback.domain.questions import LOW, Questions, translate


def low_items(questions: Questions, answers: Mapping[str, int | None]) -> tuple[str, ...]:
    """The items whose answers are low, reversed ones turned round."""
    found = []
    for id, answer in answers.items():
        item = questions.by_id.get(id)
        coded = item.coded_answer(answer) if item is not None and item.care else None
        if coded is not None and coded <= LOW:
            found.append(id)
    return tuple(sorted(found))


def advice_for(
    questions: Questions,
    answers: Mapping[str, int | None],
    language: str,
    contact: str | None,
    *,
    warming_up: bool,
) -> list[str]:
    """Sentences for the one who answered; none where nothing is low. Never a figure, and never a word of blame."""
    ids = low_items(questions, answers)
    if not ids:
        return []
    around = questions.around
    said = [translate(around["warming_up" if warming_up else "later"], language)]
    said += [translate(questions.by_id[id].advice, language) for id in ids]
    if contact:
        said.append(translate(around["contact"], language).format(contact=contact))
    return [*said, translate(around["between_us"], language)]
