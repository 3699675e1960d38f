"""The languages in which messages are written, and the nearest of them for each locale.

notifier has a template for each; profiles remarks at an import where none fits.
"""

from typing import Final

DEFAULT_LANGUAGE: Final = "en"
MESSAGE_LANGUAGE_NAMES: Final = {"de": "German", "en": "English"}
MESSAGE_LANGUAGES: Final = tuple(MESSAGE_LANGUAGE_NAMES)

_NEAREST: Final = {
    # other codes of the same language (ISO 639-2), and languages whose readers read German or English every day
    "deu": "de", "ger": "de", "gsw": "de", "bar": "de", "nds": "de", "ksh": "de", "pfl": "de", "lb": "de", "ltz": "de",
    "eng": "en", "sco": "en",
}  # fmt: skip


def find_message_language(locale: str) -> str | None:
    """The nearest language for this BCP 47 tag (``de-AT`` and ``gsw`` -> ``de``). None where no language fits."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return language if language in MESSAGE_LANGUAGES else _NEAREST.get(language)


def message_language(locale: str) -> str:
    """The language of messages to a reader with this locale: the nearest one, otherwise English."""
    return find_message_language(locale) or DEFAULT_LANGUAGE
