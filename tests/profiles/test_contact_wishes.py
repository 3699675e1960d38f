"""Validation of contact wishes."""

import pytest
from pydantic import ValidationError

from services.profiles.domain.hr_record import ContactWishes


class TestDisplayName:
    """How a person wants to be named."""

    @pytest.mark.parametrize("name", ["Zoë Ågren-O'Neill", "老师"])
    def test_any_single_line_name_is_accepted(self, name: str) -> None:
        assert ContactWishes(display_name=name).display_name == name

    @pytest.mark.parametrize("name", ["Zoe\r\nBcc: all@halden.example", "Zoe\x00", "\x7f", "Zoe\n"])
    def test_control_characters_are_refused(self, name: str) -> None:
        """The name is written into mail headers."""
        with pytest.raises(ValidationError):
            ContactWishes(display_name=name)
