"""The codes of RFC 6238, and which of them count when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pmis.identity.secondfactor import code_at, fitting_step, step_of

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_vectors_of_rfc_6238(seconds: int, code: str):
    # The RFC shows eight digits; six are the last of them.
    assert code_at(SECRET, seconds // 30) == code[-6:]
    assert step_of(datetime.fromtimestamp(seconds, UTC)) == seconds // 30


@pytest.mark.parametrize(("early", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_a_step_off(early: int, fits: bool):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    step = step_of(now) + early
    assert fitting_step(SECRET, code_at(SECRET, step), now, 0) == (step if fits else None)


def test_no_code_counts_at_or_before_the_last_one_taken():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    here = step_of(now)
    assert fitting_step(SECRET, code_at(SECRET, here), now, here - 1) == here
    assert fitting_step(SECRET, code_at(SECRET, here), now, here) is None
    assert fitting_step(SECRET, code_at(SECRET, here - 1), now, here) is None
