"""Signatures between servers: what is taken, and every way in which one can be wrong."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from pmis.kit.settings import SettingsError
from pmis.kit.signing import (
    ID,
    SIGNATURE,
    TIMESTAMP,
    TOLERANCE_SECONDS,
    SignatureError,
    headers_of,
    key_of,
    require_signed,
    signature,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "another secret of thirty-two bytes or more"
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
BODY = b'{"test": 2432232314}'


def test_it_is_that_of_the_specification():
    """The example of Standard Webhooks' own libraries."""
    signed = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_that_is_not_base64_is_taken_as_it_is():
    assert key_of("whsec_*" + OTHER) == b"whsec_*" + OTHER.encode()
    assert key_of(OTHER) == OTHER.encode()


@pytest.mark.parametrize("seconds", [0, -TOLERANCE_SECONDS, TOLERANCE_SECONDS])
def test_what_is_signed_about_now_is_taken(seconds: int):
    require_signed(headers_of([SECRET], "m", AT + seconds, BODY), BODY, [SECRET], NOW)


def test_while_secrets_are_changed_either_is_good():
    for signing in ([OTHER], [SECRET], [OTHER, SECRET]):
        require_signed(headers_of(signing, "m", AT, BODY), BODY, [SECRET, OTHER], NOW)
    # The sender has the new one already, the receiver does not yet.
    require_signed(headers_of([SECRET, OTHER], "m", AT, BODY), BODY, [OTHER], NOW)
    with pytest.raises(SignatureError, match="No secret"):
        require_signed(headers_of([OTHER], "m", AT, BODY), BODY, [SECRET], NOW)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (ID, "other", "No secret"),
        (ID, "", "webhook-id is missing"),
        (ID, "x" * 201, "one to 200 letters"),
        (ID, "m.m", "one to 200 letters"),
        (ID, "m\n", "one to 200 letters"),
        (ID, "\u0661", "one to 200 letters"),
        (TIMESTAMP, str(AT - 1), "No secret"),
        (TIMESTAMP, str(AT - TOLERANCE_SECONDS - 1), "signed more than 300 seconds ago"),
        (TIMESTAMP, str(AT + TOLERANCE_SECONDS + 1), "signed more than 300 seconds ago"),
        (TIMESTAMP, "now", "seconds since 1970"),
        (TIMESTAMP, f"-{AT}", "seconds since 1970"),
        (TIMESTAMP, "\u0661" * 10, "seconds since 1970"),
        (TIMESTAMP, "1" * 400, "seconds since 1970"),
        (TIMESTAMP, "", "webhook-timestamp is missing"),
        (SIGNATURE, "", "webhook-signature is missing"),
        (SIGNATURE, "v1,", "No secret"),
        (SIGNATURE, "v1, v1, \u00e9", "No secret"),
        (SIGNATURE, "x" * 2001, "longer"),
    ],
)
def test_a_header_that_is_wrong(name: str, value: str, words: str):
    headers = {**headers_of([SECRET], "m", AT, BODY), name: value}
    with pytest.raises(SignatureError, match=words):
        require_signed(headers, BODY, [SECRET], NOW)


def test_another_version_of_the_scheme_does_not_count():
    headers = headers_of([SECRET], "m", AT, BODY)
    for version in ("v1a,", "v0,", ""):
        wrong = {**headers, SIGNATURE: headers[SIGNATURE].replace("v1,", version)}
        with pytest.raises(SignatureError):
            require_signed(wrong, BODY, [SECRET], NOW)


def test_every_single_bit_of_the_body_counts():
    headers = headers_of([SECRET], "m", AT, BODY)
    for place in range(len(BODY) * 8):
        changed = bytearray(BODY)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(SignatureError):
            require_signed(headers, bytes(changed), [SECRET], NOW)


def test_without_a_secret_nothing_is_good():
    with pytest.raises(SignatureError):
        require_signed(headers_of([SECRET], "m", AT, BODY), BODY, [], NOW + timedelta(seconds=1))


@pytest.mark.parametrize("secret", ["", "x" * 23, "whsec_", "whsec_" + base64.b64encode(bytes(23)).decode()])
def test_a_secret_of_few_bytes_signs_nothing_and_is_never_good(secret: str):
    with pytest.raises(SettingsError, match="at least 24"):
        headers_of([secret], "m", AT, BODY)
    digest = hmac.digest(b"", f"m.{AT}.".encode() + BODY, "sha256")
    forged = {ID: "m", TIMESTAMP: str(AT), SIGNATURE: "v1," + base64.b64encode(digest).decode()}
    with pytest.raises(SettingsError, match="at least 24"):
        require_signed(forged, BODY, [secret], NOW)


def test_a_signature_is_not_good_for_the_same_bytes_cut_elsewhere():
    """Of `id.time.body` whose body begins with a time and a full stop, the id could take the first time."""
    later = AT + 10_000
    body = f"{later}.".encode() + BODY
    captured = headers_of([SECRET], "m", AT, body)[SIGNATURE]
    replayed = {ID: f"m.{AT}", TIMESTAMP: str(later), SIGNATURE: captured}
    assert captured == signature(SECRET, replayed[ID], later, BODY), "the very bytes that were signed"
    with pytest.raises(SignatureError, match="one to 200 letters"):
        require_signed(replayed, BODY, [SECRET], NOW + timedelta(seconds=10_000))


def test_and_no_id_is_sent_that_could_be_cut():
    with pytest.raises(ValueError, match="is no id"):
        headers_of([SECRET], f"m.{AT}", AT, BODY)
