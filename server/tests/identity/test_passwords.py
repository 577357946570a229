"""Which passwords are taken, and how they are kept."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from pydantic import ValidationError

from pmis.identity import passwords
from pmis.identity.models import PersonCreate
from pmis.identity.passwords import is_common, needs_rehash
from pmis.ops.demo_people import PASSWORD


@pytest.mark.parametrize(
    "password",
    [
        "qwertyuiop123",
        "Password1234!",
        "1qaz2wsx3edc",
        "FinalFantasy",
        "123456789987654321",
        "!!! dragon 2024",
        "000000000000",
        "abcabcabcabc",
        "hunter2-hunter2-",
        "pppppppppppp",
    ],
)
def test_the_first_that_somebody_would_try_are_refused(password: str):
    assert is_common(password)
    with pytest.raises(ValidationError, match="choose another"):
        PersonCreate(name="Ada", email="ada@example.org", password=password)


@pytest.mark.parametrize(
    "password",
    ["correct horse battery", "a dragon in the library", "Tr0ub4dor&3 again", "ünïcödé ist erlaubt", PASSWORD],
)
def test_others_are_taken(password: str):
    assert not is_common(password)
    assert PersonCreate(name="Ada", email="ada@example.org", password=password).password == password


def test_the_list_is_there_and_none_of_it_can_be_read():
    common = passwords._common()
    assert 4000 < len(common) < 10_000
    assert all(len(one) == 12 and int(one, 16) >= 0 for one in common)


def test_a_hash_with_other_parameters_is_to_be_made_anew():
    assert not needs_rehash(passwords.hash_password("correct horse battery"))
    assert needs_rehash(PasswordHasher(time_cost=1, memory_cost=64).hash("correct horse battery"))
