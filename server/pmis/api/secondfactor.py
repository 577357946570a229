"""One's second factor, and proving again who one is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response  # noqa: TC002 - the same

from pmis.api import docs
from pmis.api.context import (
    Call,
    address_of,
    caller,
    in_person,
    origin_of,
    parts_of,
    require_known_parameters,
    set_cookie,
)
from pmis.api.metrics import SIGN_IN_FAILURES
from pmis.api.own import json_answer, own_write
from pmis.api.people import find_person
from pmis.approval.errors import StepUpNeededError
from pmis.approval.governed import Input, parse_input
from pmis.identity import secondfactor, sessions
from pmis.identity.apitokens import revoke_all
from pmis.identity.models import MAX_PASSWORD
from pmis.identity.passwords import verify_password
from pmis.identity.secondfactor import WrongCodeError
from pmis.kit.db import Reach
from pmis.kit.errors import ForbiddenError
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact, Origin
from pmis.ledger.store import record
from pmis.policy.access import Action, authorize

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from pmis.policy.access import Principal

router = docs.RouteTable("sign-in")
Code = Annotated[str, StringConstraints(min_length=1, max_length=40)]
_NO_KEY = "An `Idempotency-Key` has no effect here"


class SecondFactorCode(Input):
    """What the authenticator shows."""

    code: Code = Field(json_schema_extra={"writeOnly": True}, examples=["123456"])


class SecondFactorGiven(Input):
    """What the authenticator shows, or a recovery code."""

    code: Code | None = Field(
        default=None,
        description="Needed by whoever has a second factor.",
        json_schema_extra={"writeOnly": True},
        examples=["123456"],
    )


class Reauthentication(Input):
    """One's password, and what the authenticator shows."""

    password: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PASSWORD)] = Field(
        json_schema_extra={"writeOnly": True, "format": "password"}, examples=["correct horse battery"]
    )
    code: Code | None = Field(
        default=None,
        description="For those with a second factor: what the authenticator shows, or a recovery code.",
        json_schema_extra={"writeOnly": True},
    )


class SecondFactorOut(BaseModel):
    """Whether one has a second factor."""

    enabled: bool
    since: datetime | None
    recovery_codes_left: int


class SecondFactorSecret(BaseModel):
    """What an authenticator needs. It counts once `POST /auth/second-factor/confirm` was given its first code."""

    secret: str = Field(description="To type into an authenticator (base 32).")
    uri: str = Field(description="The same as an address, which authenticators read as a QR code.")


class RecoveryCodes(BaseModel):
    """Codes for the day on which the authenticator is lost, each good once. They are shown this once."""

    recovery_codes: list[str]
    ended: int = Field(description="How many of one's other sessions were ended, as they began without it.")


class Removed(BaseModel):
    """How many second factors were removed."""

    removed: int


class Reauthenticated(BaseModel):
    """When one proved who one is, and until when that counts for what needs it to be recent."""

    authenticated_at: datetime
    recent_until: datetime


class SecondFactorNeededError(ForbiddenError):
    """The password is right, and a code has to come with it."""

    code = "second_factor_needed"
    title = "A code is needed too"


def is_recent(call: Call) -> bool:
    """Whether the caller proved lately, in person, who they are, as far as this process has heard."""
    return call.session is not None and call.session.authenticated_at >= _lately(call)


async def has_proved(call: Call) -> bool:
    """The same; where this process knows of no proof the session is read: another may have been given it just now."""
    if call.session is None or is_recent(call):
        return call.session is not None
    async with call.parts.database.read(call.reach) as session:
        proved = await sessions.proved_at(session, call.session.id)
    return proved is not None and proved >= _lately(call)


def _lately(call: Call) -> datetime:
    return call.parts.clock.now() - timedelta(minutes=call.parts.settings.step_up_minutes)


async def with_proof(call: Call, ask: Callable[[bool], Awaitable[Response]]) -> Response:
    """What `ask` answers, which is told whether the caller proved lately who they are.

    Where that is wanted and not known here it is asked again once, if the proof was given after all.
    """
    try:
        return await ask(is_recent(call))
    except StepUpNeededError:
        if is_recent(call) or not await has_proved(call):
            raise
    return await ask(True)


async def require_recent(call: Call) -> None:
    """Raise StepUpNeededError unless the caller proved lately who they are."""
    if not await has_proved(call):
        raise StepUpNeededError


async def require_code_or_recent(call: Call) -> None:
    """Raise StepUpNeededError for somebody with a second factor who has not given it lately.

    For what asks for the password itself: to know that much is not enough where there is more to prove.
    """
    person = call.principal.person_id
    if person is None or await has_proved(call):
        return
    async with call.parts.database.read(call.reach) as session:
        if await secondfactor.is_on(session, person):
            raise StepUpNeededError


async def prove_second_factor(request: Request, principal: Principal, code: str | None) -> bool:
    """Whether somebody, whose password was right, gave a good code; False where they have no second factor.

    Raises SecondFactorNeededError, WrongCodeError (an event) and TooManyAttemptsError.
    """
    parts, person = parts_of(request), principal.person_id
    if person is None:
        return False
    async with parts.database.read(Reach.INSTANCE) as session:
        if not await secondfactor.is_on(session, person):
            return False
    if code is None:
        raise SecondFactorNeededError("Give `code` too: what your authenticator shows, or a recovery code.")
    taken = await parts.attempts.take_code(address=address_of(request), person=person)
    origin = origin_of(request, principal)
    async with parts.database.write(Reach.INSTANCE) as session:
        good = await secondfactor.take(session, parts.vault, person, code, now=parts.clock.now(), origin=origin)
        if not good:
            # Whoever guesses codes has not shown to be the person, and is not written down as them.
            fact = Fact("signin.failed", _unproved(request, person, "code"))
            unknown = Origin(sessions.SIGN_IN, origin.source, origin.correlation_id)
            record(session, "signin", uuid7(), fact, origin=unknown, project_id=None)
        await session.commit()
    if not good:
        SIGN_IN_FAILURES.labels("code").inc()
        raise WrongCodeError("The code is not good, or was used already. Wait for the next one.")
    await parts.attempts.give_back(taken)
    return True


def _unproved(request: Request, person: UUID, because: str) -> dict[str, str]:
    """What the log says of somebody who failed to show that they are the person."""
    client = parts_of(request).attempts.digest("login address", address_of(request))
    return {"person_id": str(person), "client": client, "because": because}


async def reauthenticate(request: Request) -> Response:
    """Prove again who one is, in the session that one has."""
    call, person, current = await own_write(request)
    said = parse_input(Reauthentication, await request.body())
    parts = call.parts
    taken = await parts.attempts.take("password", address=address_of(request), account=str(person))
    async with parts.database.read(Reach.INSTANCE) as session:
        row = await session.one("select password_hash from identity.credential where person_id = %s", (person,))
    if not await verify_password(row[0] if row else None, said.password):
        SIGN_IN_FAILURES.labels("password").inc()
        async with parts.database.write(Reach.INSTANCE) as session:
            fact = Fact("signin.failed", {"person_id": str(person), "because": "reauthentication"})
            record(session, "signin", uuid7(), fact, origin=call.origin, project_id=None)
            await session.commit()
        raise sessions.WrongPasswordError("The password is wrong.")
    await parts.attempts.give_back(taken)
    await prove_second_factor(request, call.principal, said.code)
    now = parts.clock.now()
    async with parts.database.write(Reach.INSTANCE) as session:
        cookie = await sessions.prove_again(session, current.id, person, now=now, origin=call.origin)
        await session.commit()
    parts.watch.tell(person)
    until = now + timedelta(minutes=parts.settings.step_up_minutes)
    response = json_answer({"authenticated_at": now.isoformat(), "recent_until": until.isoformat()})
    if cookie is not None:
        set_cookie(response, cookie, int((current.expires_at - now).total_seconds()))
    return response


async def get_second_factor(request: Request) -> Response:
    """Whether the caller has one."""
    call = await caller(request)
    require_known_parameters(request, frozenset())
    person, _ = in_person(call)
    async with call.parts.database.read(call.reach) as session:
        since, left = await secondfactor.standing(session, person)
    told = {"enabled": since is not None, "since": since.isoformat() if since else None}
    return json_answer({**told, "recovery_codes_left": left})


async def begin_second_factor(request: Request) -> Response:
    """A secret for an authenticator."""
    call, person, _ = await own_write(request)
    await require_recent(call)
    parts = call.parts
    async with parts.database.write(Reach.INSTANCE) as session:
        secret, uri = await secondfactor.enrol(session, parts.vault, person, call.principal.name, parts.clock.now())
        await session.commit()
    return json_answer({"secret": secret, "uri": uri})


async def confirm_second_factor(request: Request) -> Response:
    """Let the second factor count from now on."""
    call, person, current = await own_write(request)
    said = parse_input(SecondFactorCode, await request.body())
    await require_recent(call)
    parts, now = call.parts, call.parts.clock.now()
    taken = await parts.attempts.take_code(address=address_of(request), person=person)
    async with parts.database.write(Reach.INSTANCE) as session:
        codes = await secondfactor.confirm(session, parts.vault, person, said.code, now=now, origin=call.origin)
        ended = await sessions.end_all(
            session, person, why="second_factor", now=now, origin=call.origin, but=current.id
        )
        await session.commit()
    parts.watch.tell(person)
    await parts.attempts.give_back(taken)
    return json_answer({"recovery_codes": codes, "ended": ended})


async def remove_second_factor(request: Request) -> Response:
    """Do without."""
    call, person, _ = await own_write(request)
    said = parse_input(SecondFactorGiven, await request.body() or b"{}")
    await require_recent(call)
    await prove_second_factor(request, call.principal, said.code)
    async with call.parts.database.write(call.reach) as session:
        removed = await secondfactor.remove(session, person, because="own", origin=call.origin)
        await session.commit()
    return json_answer({"removed": int(removed)})


async def reset_second_factor(request: Request, reference: str) -> Response:
    """Take away the second factor of somebody who lost it."""
    call, own, _ = await own_write(request)
    async with call.parts.database.read(call.reach) as session:
        person, _ = await find_person(session, call, reference)
    authorize(call.principal, Action.ADMINISTER, None)
    if person == own:
        raise ForbiddenError("Another administrator resets yours; with a code you remove it yourself.")
    await require_recent(call)
    now = call.parts.clock.now()
    async with call.parts.database.write(call.reach) as session:
        removed = await secondfactor.remove(session, person, because="reset", origin=call.origin)
        if removed:
            # Whoever signed in with it has to sign in anew: it may have been lost to somebody.
            await sessions.end_all(session, person, why="second_factor_reset", now=now, origin=call.origin)
            await revoke_all(session, person, why="second_factor_reset", now=now, origin=call.origin)
        await session.commit()
    call.parts.watch.tell(person)
    return json_answer({"removed": int(removed)})


_WRITES = (400, 401, 403, 404, 409, 413, 415, 422, 503)
_LIMITED = (*_WRITES, 429)
docs.route(
    router,
    "POST",
    "/auth/reauthenticate",
    reauthenticate,
    docs.Spec(
        "Prove again who one is",
        "signed in",
        {200: Reauthenticated},
        _LIMITED,
        description=(
            "For what is answered with `step_up_needed`. A session in a browser gets another cookie. "
            f"{_NO_KEY}: it can be said as often as one likes."
        ),
        body=Reauthentication,
    ),
)
docs.route(
    router,
    "GET",
    "/auth/second-factor",
    get_second_factor,
    docs.Spec("Whether one has a second factor", "signed in", {200: SecondFactorOut}, (401, 403, 404, 422, 503)),
)
docs.route(
    router,
    "POST",
    "/auth/second-factor",
    begin_second_factor,
    docs.Spec(
        "Begin to set up a second factor",
        "signed in",
        {200: SecondFactorSecret},
        _WRITES,
        description=f"Each call makes another secret. {_NO_KEY}: secrets are not kept with answers.",
    ),
)
docs.route(
    router,
    "POST",
    "/auth/second-factor/confirm",
    confirm_second_factor,
    docs.Spec(
        "Confirm the second factor with its first code",
        "signed in",
        {200: RecoveryCodes},
        _LIMITED,
        description=f"All of one's other sessions end. {_NO_KEY}: recovery codes are not kept with answers.",
        body=SecondFactorCode,
    ),
)
docs.route(
    router,
    "DELETE",
    "/auth/second-factor",
    remove_second_factor,
    docs.Spec(
        "Remove one's second factor",
        "signed in",
        {200: Removed},
        _LIMITED,
        description=f"It takes a code of it: 403 `second_factor_needed` without. {_NO_KEY}: it is removed once.",
        body=SecondFactorGiven,
        body_required=False,
    ),
)
docs.route(
    router,
    "DELETE",
    "/people/{reference}/second-factor",
    reset_second_factor,
    docs.Spec(
        "Reset somebody's second factor",
        "administer",
        {200: Removed},
        _WRITES,
        description=(
            "All of their sessions and API tokens end. Identities at providers stay linked: the second factor of PMIS "
            f"belongs to its password. {_NO_KEY}: it is removed once."
        ),
    ),
)
