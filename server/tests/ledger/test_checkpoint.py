"""Checkpoints: what is signed, and how strictly it is read (C2SP tlog-checkpoint and signed-note)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmis.kit.settings import Settings, SettingsError, load_settings
from pmis.ledger.checkpoint import (
    Checkpoint,
    CheckpointSigner,
    NoteError,
    VerifierKey,
    previous_keys_of,
    signer_of,
    signing_seed,
)
from tests.ledger.logs import ATTACKER, SIGNER

ROOT = hashlib.sha256(b"root").digest()
NOTE = SIGNER.sign(42, ROOT)

# The reference vector of the format's first implementation (golang.org/x/mod/sumdb/note).
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def changed(old: str, new: str) -> str:
    assert old in NOTE
    return NOTE.replace(old, new)


class TestKey:
    def test_the_reference_key_is_read_and_written(self) -> None:
        key = VerifierKey.parse(GO_KEY)
        assert (key.name, key.key_id.hex(), str(key)) == ("PeterNeumann", "c74f20a3", GO_KEY)

    def test_the_reference_seed_gives_the_reference_key_and_signature(self) -> None:
        signer = CheckpointSigner("PeterNeumann", GO_SEED)
        assert str(signer.key) == GO_KEY
        signature = base64.b64decode(GO_SIGNATURE)
        assert signature[:4] == signer.key.key_id
        assert signer.key.verifies(signature[4:], GO_TEXT)
        assert not signer.key.verifies(signature[4:], GO_TEXT + "x")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "name\\+id\\+key"),
            ("PeterNeumann+c74f20a3", "name\\+id\\+key"),
            ("+4e42fb98+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "must be a name"),
            ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "must be a name"),
            ("Peter\x7fNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "must be a name"),
            ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "eight hexadecimal"),
            ("PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "eight hexadecimal"),
            ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T", "not base64"),
            ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10é", "not base64"),
            ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy1w==", "not an Ed25519 key"),
            ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "not an Ed25519 key"),
            ("PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "does not fit"),
            ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "does not fit"),
        ],
    )
    def test_any_other_text_is_refused(self, text: str, why: str) -> None:
        with pytest.raises(NoteError, match=why):
            VerifierKey.parse(text)

    def test_base64_has_one_form(self) -> None:
        # The last character of the signature may differ in bits that base64 throws away.
        loose = GO_SIGNATURE[:-2] + "N="
        assert base64.b64decode(loose) == base64.b64decode(GO_SIGNATURE)
        with pytest.raises(NoteError, match="not canonical base64"):
            Checkpoint.parse(f"{SIGNER.origin}\n1\n{base64.b64encode(ROOT).decode()}\n\n— a {loose}\n")


class TestSigning:
    def test_a_note_is_three_lines_a_blank_one_and_the_signature(self) -> None:
        origin, size, root, blank, signature, end = NOTE.split("\n")
        assert (origin, size, base64.b64decode(root), blank, end) == (SIGNER.origin, "42", ROOT, "", "")
        assert signature.startswith(f"— {SIGNER.origin} ")

    def test_the_same_arguments_give_the_same_note(self) -> None:
        assert SIGNER.sign(42, ROOT) == NOTE

    def test_a_note_is_read_back_and_verified(self) -> None:
        checkpoint = Checkpoint.parse(NOTE)
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (SIGNER.origin, 42, ROOT)
        assert checkpoint.require_signature([ATTACKER.key, SIGNER.key]) == SIGNER.key
        assert Checkpoint.parse(NOTE.encode()) == checkpoint

    @given(st.integers(0, 10**18), st.binary(min_size=32, max_size=32))
    def test_every_size_and_root_survive(self, size: int, root: bytes) -> None:
        checkpoint = Checkpoint.parse(SIGNER.sign(size, root))
        assert (checkpoint.size, checkpoint.root) == (size, root)
        checkpoint.require_signature([SIGNER.key])

    @pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
    def test_an_origin_that_cannot_name_a_key_is_refused(self, origin: str) -> None:
        with pytest.raises(NoteError, match="must be a name"):
            CheckpointSigner(origin, bytes(32))


class TestReading:
    @pytest.mark.parametrize(
        ("note", "why"),
        [
            (b"\xff" + NOTE.encode(), "not UTF-8"),
            ("\ud800" + NOTE, "not UTF-8"),
            (NOTE.replace("\n", "\r\n"), "control characters"),
            (changed("42", "4\x002"), "control characters"),
            ("x" * 70_000, "longer than"),
            ("", "not a signed note"),
            (NOTE.partition("\n\n")[0] + "\n", "not a signed note"),
            (NOTE.removesuffix("\n"), "not a signed note"),
            (changed("— ", "- "), "signature line"),
            (changed("— ", "—  "), "signature line"),
            (NOTE + "\n", "signature line"),
            (NOTE + "x\n", "signature line"),
            (NOTE + "— a+b AAAAAAAA\n", "must be a name"),
            (NOTE + "— a AAAA\n", "too short"),
            (NOTE + "— a A\n", "not base64"),
            (NOTE + f"— a {GO_SIGNATURE}\n" * 100, "more than 100 signatures"),
            (changed(SIGNER.origin + "\n42", "\n42"), "three lines"),
            (changed("42\n", ""), "three lines"),
            (changed("42\n", "42\n\n"), "three lines"),
            (changed("42", "042"), "plain decimal"),
            (changed("42", "+42"), "plain decimal"),
            (changed("42", "4_2"), "plain decimal"),
            (changed("42", "٤٢"), "plain decimal"),
            (changed("42", "9" * 20), "plain decimal"),
            (changed(base64.b64encode(ROOT).decode(), "AAAA"), "32 bytes"),
            (changed(base64.b64encode(ROOT).decode(), base64.urlsafe_b64encode(b"\xff" * 32).decode()), "base64"),
        ],
    )
    def test_whatever_is_not_a_checkpoint_is_refused(self, note: str | bytes, why: str) -> None:
        with pytest.raises(NoteError, match=why):
            Checkpoint.parse(note)

    def test_extension_lines_are_kept_in_the_text_that_is_signed(self) -> None:
        checkpoint = Checkpoint.parse(NOTE.replace("\n\n", "\nmore\n\n"))
        assert checkpoint.text.endswith("\nmore\n")
        with pytest.raises(NoteError, match="does not fit its text"):
            checkpoint.require_signature([SIGNER.key])

    def test_a_witness_may_add_a_signature_before_or_after(self) -> None:
        text, _, own = NOTE.partition("\n\n")
        other = f"— witness.example {GO_SIGNATURE}\n"
        for lines in (own + other, other + own):
            assert Checkpoint.parse(f"{text}\n\n{lines}").require_signature([SIGNER.key]) == SIGNER.key

    def test_nobody_known_signed(self) -> None:
        with pytest.raises(NoteError, match=rf"signed by {ATTACKER.origin}\+{ATTACKER.key.key_id.hex()}, which is not"):
            Checkpoint.parse(ATTACKER.sign(42, ROOT)).require_signature([SIGNER.key])

    def test_a_key_speaks_only_for_the_log_of_its_name(self) -> None:
        other = VerifierKey("another.example/log", SIGNER.key.public_key)
        with pytest.raises(NoteError, match="not a key that was expected"):
            Checkpoint.parse(NOTE).require_signature([other])

    @given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
    def test_no_changed_byte_is_verified(self, at: int, flip: int) -> None:
        note = bytearray(NOTE.encode())
        note[at] ^= flip
        with pytest.raises(NoteError):
            Checkpoint.parse(bytes(note)).require_signature([SIGNER.key])


class TestSeed:
    def test_the_key_that_is_set_wins(self) -> None:
        seed = bytes(range(32))
        assert signing_seed(signing_key=base64.b64encode(seed).decode() + "\n", secret_key="other") == seed

    def test_without_one_it_is_derived_and_does_not_give_the_secret_away(self) -> None:
        derived = signing_seed(signing_key=None, secret_key="a long secret")
        assert derived == signing_seed(signing_key="", secret_key="a long secret")
        assert derived != signing_seed(signing_key=None, secret_key="a long secreT")
        assert len(derived) == 32
        # Whoever changes this changes the identity of every log that was signed with a derived key.
        assert derived.hex() == "6a1ab4a9dadf841a3ff1695896cc870e805d472beb29870ae58896eb4746a26e"

    @pytest.mark.parametrize(
        ("own", "secret", "why"),
        [
            ("not base64!", "s", "not base64"),
            ("é", "s", "not base64"),
            (base64.b64encode(bytes(31)).decode(), "s", "holds 31 bytes"),
            (None, None, "Set CHECKPOINT_SIGNING_KEY"),
            ("", "", "Set CHECKPOINT_SIGNING_KEY"),
        ],
    )
    def test_anything_else_is_refused_without_showing_it(self, own: str | None, secret: str | None, why: str) -> None:
        with pytest.raises(SettingsError, match=why) as caught:
            signing_seed(signing_key=own, secret_key=secret)
        assert not own or own not in caught.value.detail


class TestSettings:
    def make(self, **values: Any) -> Settings:
        return load_settings(embedded=False, secret_key="a long secret", **values)

    def test_the_log_is_signed_by_the_key_that_is_set_or_derived(self) -> None:
        seed = base64.b64encode(bytes(range(32))).decode()
        own = signer_of(self.make(checkpoint_signing_key=seed, checkpoint_origin="pmis.test/own"))
        assert own.key == CheckpointSigner("pmis.test/own", bytes(range(32))).key
        derived = signer_of(self.make(checkpoint_origin="pmis.test/own"))
        assert (
            derived.key
            == CheckpointSigner("pmis.test/own", signing_seed(signing_key=None, secret_key="a long secret")).key
        )

    def test_without_any_key_it_says_what_to_set(self) -> None:
        settings = self.make().model_copy(update={"secret_key": None, "checkpoint_signing_key": None})
        with pytest.raises(SettingsError, match="Set CHECKPOINT_SIGNING_KEY"):
            signer_of(settings)

    def test_previous_keys_are_separated_by_spaces(self) -> None:
        assert previous_keys_of(self.make()) == []
        given = f"{SIGNER.key} {ATTACKER.key}"
        assert previous_keys_of(self.make(checkpoint_previous_keys=given)) == [SIGNER.key, ATTACKER.key]
        with pytest.raises(SettingsError, match="CHECKPOINT_PREVIOUS_KEYS names a key that is none"):
            previous_keys_of(self.make(checkpoint_previous_keys="x"))
