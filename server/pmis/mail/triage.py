"""What people decide about a mail that came in: where it belongs, that it is nothing, and what of it is proposed.

Each is an event of the mail's stream. A suggestion that somebody accepts becomes a change like any other, proposed by
that person and judged as something that an e-mail says: the policy never lets that take effect by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.approval.errors import NothingToChangeError
from pmis.approval.propose import Request, Wanted, propose
from pmis.approval.registry import NOUNS
from pmis.kit.db import Reach
from pmis.kit.errors import ConflictError, InvalidInputError, NotFoundError, StaleVersionError
from pmis.mail.authentication import Authentication
from pmis.mail.filing import Inbound, filed_in, locked, place, say, thread_of
from pmis.mail.looking import find
from pmis.mail.routing import Target, by_subject, sender_of
from pmis.policy.access import Action, allowed, authorize
from pmis.policy.document import UNTRUSTED, Writer

if TYPE_CHECKING:
    from pmis.approval.propose import Outcome
    from pmis.email.models import Email
    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Origin
    from pmis.ledger.vault import Vault
    from pmis.mail.looking import Shown
    from pmis.policy.access import Principal

BY_PERSON: Final = "by_person"
MOVED: Final = "moved"


class MailMovedError(ConflictError):
    """The mail was moved; what is to be said about it is said where it is now."""

    code = "mail_moved"
    title = "This mail was moved"


class NotAttachedError(ConflictError):
    """The mail is attached to no package, so what it asks for is about none."""

    code = "mail_not_attached"
    title = "This mail is attached to no package"


class SuggestionAcceptedError(ConflictError):
    """Somebody has accepted this suggestion before."""

    code = "suggestion_accepted"
    title = "This suggestion was accepted before"


@dataclass(frozen=True)
class Said:
    """Who decides, and about which version of the mail; None is whichever it is."""

    request: Request
    if_version: int | None = None

    @property
    def principal(self) -> Principal:
        """Who decides."""
        return self.request.principal


async def attach(session: WriteSession, identity: UUID | None, package: str, said: Said) -> Email:
    """Attach the mail to a package of its project, wherever it was before; from then on answers to it join its thread.

    Raises NotFoundError, ForbiddenError, StaleVersionError, MailMovedError, InvalidInputError or NothingToChangeError.
    """
    shown, email = await _held(session, identity, said)
    if email.project_id is None:
        raise ConflictError("It is in the instance's inbox; move it to a project first.")
    found = await _package(session, email.project_id, package)
    if email.status == "attached" and email.package_id == found:
        raise NothingToChangeError("The mail is attached to this package.")
    thread = await thread_of(session, email.project_id, shown.mail, email.id, join=True)
    changed = {
        "status": "attached",
        "reason": BY_PERSON,
        "package_id": str(found),
        "candidate_id": str(found),
        "thread_id": str(thread),
    }
    return say(session, email, "attached", said.request.origin, changed, reason=said.request.reason)


async def dismiss(session: WriteSession, identity: UUID | None, said: Said) -> Email:
    """Lay the mail aside: it belongs to no package. It stays, and can be attached all the same.

    Raises what `attach` raises.
    """
    _, email = await _held(session, identity, said)
    if email.status == "dismissed":
        raise NothingToChangeError("The mail is dismissed.")
    changed = {"status": "dismissed", "reason": BY_PERSON, "package_id": None}
    return say(session, email, "dismissed", said.request.origin, changed, reason=said.request.reason)


async def move(session: WriteSession, vault: Vault, identity: UUID | None, project: str | None, said: Said) -> Email:
    """Hand the mail to another project, or (None) to the instance's inbox, where it waits for somebody to look at it.

    Administrators of the instance hand what is in its inbox to any project, others what is theirs to a project that
    they see. Raises what `attach` raises.
    """
    shown, email = await _held(session, identity, said)
    target = await _project(session, said.principal, project)
    if target == email.project_id:
        raise NothingToChangeError("The mail is there already.")
    origin = said.request.origin
    # Who looks after the inbox need not see into the project that a mail is for.
    with session.reaching(Reach.INSTANCE):
        there = await filed_in(session, email.inbound_id, target)
        if there is None:
            await _file_there(session, vault, shown, target, origin)
        elif there.status in ("moved", "dismissed"):
            say(session, there, "moved", origin, {"status": "quarantined", "reason": MOVED})
    changed = {"status": "moved", "reason": BY_PERSON, "package_id": None}
    return say(session, email, "moved", origin, changed, reason=said.request.reason, to=str(target) if target else None)


async def _file_there(session: WriteSession, vault: Vault, shown: Shown, project: UUID | None, origin: Origin) -> None:
    """File the mail where it was not filed before; there it waits for somebody to look at it."""
    email, mail = shown.email, shown.mail
    goal = Target(project)
    if project is not None:
        goal = await by_subject(session, goal, mail.headers.subject)
    judged = Authentication(checked=shown.authentication["checked"], authenticated=email.authenticated)
    await place(
        session,
        await Inbound.load(session, email.inbound_id),
        mail,
        goal,
        await sender_of(session, vault, mail.headers, judged, project),
        authenticated=email.authenticated,
        suggestions=email.suggestions,
        verdict=("quarantined", MOVED),
        origin=origin,
    )


async def suggested(session: Session, identity: UUID | None, number: int, said: Said) -> tuple[Email, Wanted]:
    """The change that a suggestion of the mail comes to, for whoever sees the mail; the first has the number 1.

    Raises NotFoundError, StaleVersionError, NotAttachedError, or the noun's refusal of what the mail says.
    """
    shown = await find(session, said.principal, identity)
    email = shown.email
    _require_version(email, said)
    if not 1 <= number <= len(shown.suggestions):
        raise NotFoundError("The mail has no such suggestion.")
    if email.status != "attached" or email.package_id is None:
        raise NotAttachedError("Attach the mail to the package that it is about; then accept what it asks for.")
    told = shown.suggestions[number - 1]
    noun = NOUNS["package"]
    patch = noun.validated(told["operation"], told["patch"])
    return email, Wanted(noun, told["operation"], email.package_id, patch, email.project_id)


async def accept(session: WriteSession, vault: Vault, identity: UUID | None, number: int, said: Said) -> Outcome:
    """Propose what a suggestion comes to, once; the caller is the proposer, and an e-mail the writer.

    Raises what `suggested` raises, SuggestionAcceptedError, and whatever a proposal is refused with.
    """
    email, wanted = await suggested(session, identity, number, said)
    # Whoever holds the package's lock never waits for a mail's.
    email = await locked(session, email.id)
    _require_version(email, said)
    if email.package_id != wanted.target:
        raise NotAttachedError("It was attached elsewhere in the meantime. Read it again.")
    if number in email.accepted:
        raise SuggestionAcceptedError("What came of it is in the package's approvals and its timeline.")
    request = proposing(email, number, said)
    outcome = await propose(session, vault, request, [wanted])
    told = {"approval_id": str(outcome.approval.id)} if outcome.approval else {}
    accepted = {"accepted": sorted([*email.accepted, number])}
    say(session, email, "suggestion_accepted", request.origin, accepted, suggestion=number, **told)
    return outcome


def proposing(email: Email, number: int, said: Said) -> Request:
    """The proposal of a suggestion: it says which mail it is from, and is judged as what an e-mail says.

    What the mail says is not in it: that may have to be erased, and the log is for ever.
    """
    given = said.request
    words = f"From an e-mail ({email.id}, suggestion {number})."
    return Request(
        given.principal,
        "mail",
        given.correlation_id,
        reason=f"{words} {given.reason}" if given.reason else words,
        stated_impact=given.stated_impact,
        stated_uncertainty=given.stated_uncertainty,
        writer=Writer.EMAIL,
        # Whoever revises the proposal is its writer then; that others wrote the values stays said.
        flags=frozenset({UNTRUSTED}),
    )


async def _held(session: WriteSession, identity: UUID | None, said: Said) -> tuple[Shown, Email]:
    """The mail under lock, for somebody who may decide about it."""
    shown = await find(session, said.principal, identity)
    project = shown.email.project_id
    authorize(said.principal, Action.ADMINISTER if project is None else Action.CONFIGURE, project)
    email = await locked(session, shown.email.id)
    _require_version(email, said)
    if email.status == "moved":
        raise MailMovedError("It was moved to where it belongs; decide about it there.")
    return shown, email


def _require_version(email: Email, said: Said) -> None:
    if said.if_version is not None and said.if_version != email.version:
        raise StaleVersionError(
            f"You saw version {said.if_version}; it is at version {email.version} now. Read it again and repeat.",
            version=email.version,
        )


async def _package(session: Session, project: UUID, text: str) -> UUID:
    column, value = _named(text, "code")
    row = await session.one(
        f"select id from state.package where {column} = %s and project_id = %s and not deleted", (value, project)
    )
    if row is None:
        raise _wrong("package", "There is no such package in the mail's project")
    return row[0]


async def _project(session: Session, principal: Principal, text: str | None) -> UUID | None:
    if text is None:
        return None
    column, value = _named(text, "prefix")
    row = await session.one(f"select id from state.project where {column} = %s", (value,))
    # Who administers the instance sees into no project, and gives each what came for it.
    known = row is not None and (principal.instance_admin or allowed(principal, Action.READ, row[0]))
    if row is None or not known:
        raise NotFoundError("There is no such project.")
    return row[0]


def _named(text: str, name: str) -> tuple[str, UUID | str]:
    """The column that a text is looked for in: the id, or the name by which people know it."""
    try:
        return "id", UUID(text)
    except ValueError:
        return name, text.upper()


def _wrong(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field}: {message}.", errors=[{"pointer": f"/{field}", "message": message, "type": "value_error"}]
    )


def filed(email: Email) -> dict[str, Any]:
    """Where the mail is, without what it says: an answer that may be kept."""
    names = (
        "id",
        "version",
        "project_id",
        "package_id",
        "candidate_id",
        "thread_id",
        "status",
        "reason",
        "received_at",
    )
    told = email.plain
    return {name: told[name] for name in names}
