"""Addresses say where a mail belongs; tokens cannot be guessed, and no other text is taken for one."""

from __future__ import annotations

import base64
import hmac
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.email.addresses import Addresses, Place
from pmis.kit.ids import uuid7

OURS = Addresses("mail.example.org", "a secret of this instance, long enough")
PACKAGE = UUID("0197c0de-0000-7000-8000-000000000001")


class TestPlaces:
    @pytest.mark.parametrize(
        ("address", "prefix", "code"),
        [
            ("inbox@mail.example.org", None, None),
            ("P@mail.example.org", "P", None),
            ("road2@MAIL.example.org", "ROAD2", None),
            ("p-001@mail.example.org", "P", "P-001"),
            ("P-1000@mail.example.org", "P", "P-1000"),
        ],
    )
    def test_an_address_of_ours(self, address: str, prefix: str | None, code: str | None):
        assert OURS.place_of(address) == Place(address, prefix, code)

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "inbox",
            "inbox@example.org",
            "inbox@mail.example.org.evil.example",
            "p-1@mail.example.org",
            "p-001x@mail.example.org",
            "p 001@mail.example.org",
            "p'--@mail.example.org",
            "reply+@mail.example.org",
            "reply+abc@mail.example.org",
            '"p-001@evil.example"@mail.example.org',
            "٣-001@mail.example.org",
        ],
    )
    def test_an_address_that_is_not_ours(self, address: str):
        assert OURS.place_of(address) is None


class TestTokens:
    @given(st.uuids())
    def test_a_reply_comes_back_to_its_package(self, package: UUID):
        address = OURS.reply_address(package)
        assert OURS.place_of(address) == Place(address, package=package)
        assert OURS.place_of(address.upper()) == Place(address.upper(), package=package)
        assert OURS.referred(["<x@y>", OURS.message_id(package, uuid7()), "<z@y>"]) == package
        assert len(address.partition("@")[0]) <= 64, "the longest local part that SMTP takes"

    @given(st.integers(0, 51), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
    def test_a_token_with_another_letter_is_none(self, at: int, letter: str):
        token = OURS.token(PACKAGE)
        changed = token[:at] + letter + token[at + 1 :]
        assert OURS.package_of(changed) == (PACKAGE if changed == token else None)

    @given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567=+", max_size=60))
    def test_no_other_text_is_a_token(self, text: str):
        assert OURS.package_of(text) is None

    def test_the_tokens_of_another_instance_are_none_here(self):
        other = Addresses("mail.example.org", "the secret of another instance entirely")
        assert OURS.package_of(other.token(PACKAGE)) is None
        assert OURS.referred([other.message_id(PACKAGE, uuid7())]) is None

    def test_a_digest_without_the_key_is_none(self):
        forged = hmac.digest(b"", PACKAGE.bytes, "sha256")[:16]
        assert OURS.package_of(base64.b32encode(PACKAGE.bytes + forged).decode().rstrip("=").lower()) is None

    def test_the_last_reference_of_ours_counts(self):
        other = uuid7()
        assert OURS.referred([OURS.message_id(PACKAGE, uuid7()), OURS.message_id(other, uuid7())]) == other
        assert OURS.referred([OURS.message_id(PACKAGE, uuid7()).replace("mail.", "evil.")]) is None
        assert OURS.referred([]) is None
