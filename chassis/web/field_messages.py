"""What is wrong with one field of a request, in words for people. pydantic's own words are for programmers."""

from collections.abc import Mapping
from typing import Any

_MESSAGES: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not a field that this request knows",
    "json_invalid": "is not JSON",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "none_required": "must be null",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be an object with named fields",
    "mapping_type": "must be an object with named fields",
    "model_type": "must be an object with named fields",
    "model_attributes_type": "must be an object with named fields",
    "date_type": "must be a date, such as 2026-03-01",
    "date_parsing": "must be a date, such as 2026-03-01",
    "date_from_datetime_parsing": "must be a date, such as 2026-03-01",
    "date_from_datetime_inexact": "must be a date without a time, such as 2026-03-01",
    "datetime_type": "must be a time with its zone, such as 2026-03-01T09:30:00+01:00",
    "datetime_parsing": "must be a time with its zone, such as 2026-03-01T09:30:00+01:00",
    "datetime_from_date_parsing": "must be a time with its zone, such as 2026-03-01T09:30:00+01:00",
    "timezone_aware": "must be a time with its zone, such as 2026-03-01T09:30:00+01:00",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "needs the field {discriminator}, which says what it is",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters or fewer",
    "too_short": "must have {min_length} entries or more",
    "too_long": "must have {max_length} entries or fewer",
    "string_pattern_mismatch": "has a form or characters that are not allowed here",
}


def field_message(detail: Mapping[str, Any]) -> str:
    """The message for one error of ``ValidationError.errors()``. It names limits and choices, and never the input.

    An error without words of its own keeps pydantic's message, such as that of a validator of ours.
    """
    message = _MESSAGES.get(detail["type"])
    if message is None:
        return str(detail["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    context = detail.get("ctx") or {}
    if "similar" in context:
        return f"{message}; did you mean {context['similar']}?"
    return message.format_map(context)
