"""One code for each language, whichever of its codes somebody wrote.

Sources: the ISO 639-2 code list of the Library of Congress (three letters, both bibliographic and terminological, for
the languages listed here), and the IANA Language Subtag Registry (deprecated subtags, and ``no`` as the macrolanguage
of ``nb``). A code that is not listed stands for itself. Tags are normalised where they are accepted, in profiles (HTTP
and files) and in every event that is read, so that nobody has to compare spellings.
"""

from collections.abc import Iterable
from typing import Final

_CODES: Final = """
    ar ara|bg bul|bs bos|ca cat|cs ces cze|cy cym wel|da dan|de deu ger|el ell gre|en eng|es spa|et est|eu eus baq
    fa fas per|fi fin|fr fra fre|ga gle|gl glg|gu guj|he heb iw|hi hin|hr hrv|hu hun|hy hye arm|id ind in|is isl ice
    it ita|ja jpn|jv jav jw|ka kat geo|kk kaz|kn kan|ko kor|lt lit|lv lav|mk mkd mac|ml mal|mr mar|ms msa may|mt mlt
    my mya bur|nl nld dut|nn nno|no nor nb nob|pa pan|pl pol|pt por|ro ron rum mo mol|ru rus|sk slk slo|sl slv
    sq sqi alb|sr srp|sv swe|sw swa|ta tam|te tel|th tha|tr tur|uk ukr|ur urd|vi vie|yi yid ji|zh zho chi
"""
_LANGUAGE_OF: Final = {
    code: group.split()[0] for line in _CODES.splitlines() for group in line.split("|") for code in group.split()
}


def get_language(tag: str) -> str:
    """The code of the language of a BCP 47 tag, without script or region: ``iw-IL`` -> ``he``."""
    code = tag.split("-", maxsplit=1)[0].lower()
    return _LANGUAGE_OF.get(code, code)


def normalise_tag(tag: str) -> str:
    """The tag with the one code of its language; script and region stay: ``eng-GB`` -> ``en-GB``."""
    primary, hyphen, rest = tag.partition("-")
    return get_language(primary) + hyphen + rest


def normalise_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Each language tag once, in the order in which it first came."""
    return tuple(dict.fromkeys(map(normalise_tag, tags)))
