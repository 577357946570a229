"""Looking through mails: whose eyes they are for, and what is shown of them.

What is attached is for everybody who reads the project. What waits for somebody to look at it, or was dismissed, is for
its administrators; what came to the instance's inbox for those of the instance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pmis.email.models import Email
from pmis.kit.errors import NotFoundError
from pmis.mail.reading import Mail
from pmis.policy.access import ALL, Action, allowed, visible_projects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.db import Session
    from pmis.policy.access import Principal

ATTACHED: Final = "attached"
_COLUMNS: Final = "e.doc, i.content, i.authentication, i.suggestions"
_FROM: Final = "from state.email e join mail.inbound i on i.id = (e.doc::jsonb ->> 'inbound_id')::uuid"


@dataclass(frozen=True)
class Shown:
    """A filed mail with what it says."""

    email: Email
    mail: Mail
    authentication: dict[str, Any]
    suggestions: list[dict[str, Any]]

    def summary(self) -> dict[str, Any]:
        """The line of a list."""
        email = self.email.plain
        headers = self.mail.headers
        names = (
            "id",
            "version",
            "project_id",
            "package_id",
            "candidate_id",
            "thread_id",
            "status",
            "reason",
            "via",
            "received_at",
        )
        return {
            **{name: email[name] for name in names},
            "from": [one.model_dump() for one in headers.from_],
            "subject": headers.subject,
            "sender": {
                "kind": self.email.sender_kind,
                "id": email["sender_id"],
                "authenticated": self.email.authenticated,
            },
            "attachments": len(self.mail.attachments),
            "suggestions": len(self.suggestions),
        }

    def whole(self) -> dict[str, Any]:
        """All that is shown of it. The text has what cannot be seen written out, the HTML runs and loads nothing."""
        headers = self.mail.headers
        return {
            **self.summary(),
            "to": [one.model_dump() for one in headers.to],
            "cc": [one.model_dump() for one in headers.cc],
            "date": headers.date.isoformat() if headers.date else None,
            "text": self.mail.text,
            "html": self.mail.html,
            "faults": self.mail.faults,
            "authentication": self.authentication,
            "attachments": [one.model_dump() for one in self.mail.attachments],
            "suggestions": [
                {**one, "number": number, "accepted": number in self.email.accepted}
                for number, one in enumerate(self.suggestions, start=1)
            ],
            "digest": self.email.digest,
            "size": self.email.size,
        }


def _shown(row: tuple[Any, ...]) -> Shown:
    doc, content, authentication, suggestions = row
    return Shown(
        Email.model_validate_json(doc),
        Mail.model_validate_json(content),
        json.loads(authentication),
        json.loads(suggestions),
    )


def _for_eyes(principal: Principal) -> tuple[str, dict[str, Any]]:
    """The condition on rows that the principal may see."""
    reads = visible_projects(principal)
    configures = visible_projects(principal, Action.CONFIGURE)
    return (
        (
            "((e.status = 'attached' and e.project_id is not null and (%(all)s or e.project_id = any(%(reads)s))) "
            "or e.project_id = any(%(configures)s) or (%(root)s and e.project_id is null))"
        ),
        {
            "all": reads is ALL,
            "reads": [] if reads is ALL else list(reads),
            "configures": [] if configures is ALL else list(configures),
            "root": allowed(principal, Action.ADMINISTER, None),
        },
    )


async def find(session: Session, principal: Principal, identity: UUID | None) -> Shown:
    """The mail; raises NotFoundError, the same for one that is not for these eyes."""
    condition, values = _for_eyes(principal)
    row = identity and await session.one(
        f"select {_COLUMNS} {_FROM} where e.id = %(id)s and {condition}", {**values, "id": identity}
    )
    if not row:
        raise NotFoundError("There is no such mail.")
    return _shown(row)


async def messages(
    session: Session,
    principal: Principal,
    *,
    project: UUID | None,
    package: UUID | None,
    statuses: Sequence[str] | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Shown]:
    """The newest mails that the principal may see, from a place in the list on."""
    condition, values = _for_eyes(principal)
    where: list[str] = [condition]
    if project is not None:
        where.append("e.project_id = %(project)s")
    if package is not None:
        where.append("e.package_id = %(package)s")
    if statuses is not None:
        where.append("e.status = any(%(statuses)s)")
    if after is not None:
        where.append("(e.received_at, e.id) < (%(at)s, %(id)s)")
        values |= {"at": after[0], "id": after[1]}
    values |= {"project": project, "package": package, "statuses": list(statuses or ()), "limit": limit}
    rows = await session.all(
        f"select {_COLUMNS} {_FROM} where {' and '.join(where)} order by e.received_at desc, e.id desc limit %(limit)s",
        values,
    )
    return [_shown(row) for row in rows]
