"""How somebody wants to be called."""

import pytest
from pydantic import ValidationError

from services.profiles.domain.hr_record import ContactWishes


@pytest.mark.parametrize("name", ["Zoë Ågren-O'Neill", "老师"])
def test_any_name_of_one_line_is_taken(name: str) -> None:
    assert ContactWishes(display_name=name).display_name == name


@pytest.mark.parametrize("name", ["Zoe\r\nBcc: all@halden.example", "Zoe\x00", "\x7f", "Zoe\n"])
def test_a_name_with_a_control_character_is_refused_since_it_goes_into_mail(name: str) -> None:
    with pytest.raises(ValidationError):
        ContactWishes(display_name=name)
