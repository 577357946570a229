"""The texts there are about a record, and one of them, as far as the person may read it.

What a text says leaves here only for the extractor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pmis.assistant.plan import Taken
from pmis.kit.errors import NotFoundError
from pmis.mail import looking
from pmis.policy.access import Action, allowed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from uuid import UUID

    from pmis.assistant.answers import Asking
    from pmis.kit.db import Session
    from pmis.kit.storage import Storage
    from pmis.mail.looking import Shown

Type: TypeAlias = Literal["email", "comment", "package", "task"]
Part: TypeAlias = Literal["subject", "text", "attachment", "body", "title", "description", "data"]
_SHOWN: Final = 10
_PLAIN: Final = "text/plain"
_LARGEST: Final = 1 << 20
_COMMENTS: Final = (
    "select id, doc::json ->> 'created_at' from state.comment where entity_type = %s and entity_id = %s "
    "and project_id = %s and not deleted order by id desc limit %s"
)


@dataclass(frozen=True)
class Untrusted:
    """A text that others wrote, and on which day. `digest` is the file that it stands in, when it does in one."""

    source: Taken
    written: date
    text: str = ""
    digest: str | None = None

    async def content(self, storage: Storage) -> str:
        """What stands in the file; raises what the storage raises."""
        return (await storage.get(self.digest or "")).decode("utf-8", "replace")


async def about(session: Session, asking: Asking, kind: Literal["package", "task"], identity: UUID) -> list[Any]:
    """The texts about a record, each by what it is and not by what it says, the newest mails and comments first.

    Raises NotFoundError for a record that is not there for who asks.
    """
    doc, project = await _record(session, asking, kind, identity)
    found: list[Any] = [{"type": kind, "record": str(identity), "parts": [one for one in _PARTS[kind] if doc.get(one)]}]
    if kind == "package":
        mails = await looking.messages(
            session, asking.person, project=None, package=identity, statuses=["attached"], after=None, limit=_SHOWN
        )
        found += [_mail(one) for one in mails]
    rows = await session.all(_COMMENTS, (kind, identity, project, _SHOWN))
    found += [{"type": "comment", "record": str(one), "at": at, "parts": ["body"]} for one, at in rows]
    return found


_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "package": ("title", "description", "data"),
    "task": ("title", "description"),
    "comment": ("body",),
}


def _mail(one: Shown) -> dict[str, Any]:
    files = sum(_is_read(file.media_type, file.size) for file in one.mail.attachments)
    return {
        "type": "email",
        "record": str(one.email.id),
        "at": one.email.received_at.isoformat(),
        "parts": ["subject", "text"],
        "attachments": files,
    }


def _is_read(media_type: str, size: int) -> bool:
    return media_type == _PLAIN and size <= _LARGEST


async def find(session: Session, asking: Asking, kind: Type, identity: UUID, part: Part, number: int) -> Untrusted:
    """A text of a record; raises NotFoundError for one that is not there for who asks.

    `number` says which of the attachments that are plain text, the first being 1.
    """
    if kind == "email":
        shown = await looking.find(session, asking.person, identity)
        written = shown.email.received_at.astimezone(asking.zone).date()
        if part == "attachment":
            files = [one for one in shown.mail.attachments if _is_read(one.media_type, one.size)]
            if not 1 <= number <= len(files):
                raise NotFoundError("The mail has no such attachment that is plain text.")
            return Untrusted(Taken(kind, identity, f"attachment {number}"), written, digest=files[number - 1].digest)
        texts = {"subject": shown.mail.headers.subject, "text": shown.mail.text}
        if part not in texts:
            raise NotFoundError("A mail has a subject, a text and attachments.")
        return Untrusted(Taken(kind, identity, part), written, texts[part])
    doc, _ = await _record(session, asking, kind, identity)
    if part not in _PARTS[kind]:
        raise NotFoundError(f"A {kind} has these texts: {', '.join(_PARTS[kind])}.")
    at = datetime.fromisoformat(doc["created_at"]).astimezone(asking.zone).date()
    said = doc.get(part) or ""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, indent=0)
    return Untrusted(Taken(kind, identity, part), at, text)


async def _record(session: Session, asking: Asking, kind: str, identity: UUID) -> tuple[dict[str, Any], UUID]:
    row = await session.one(f"select doc, project_id from state.{kind} where id = %s", (identity,))
    doc: dict[str, Any] = json.loads(row[0]) if row else {}
    if row is None or doc.get("deleted_at") or not allowed(asking.person, Action.READ, row[1]):
        raise NotFoundError(f"There is no such {kind}.")
    return doc, row[1]


async def packages_of(session: Session, asking: Asking, codes: list[str]) -> list[dict[str, str]]:
    """The packages of these codes that are there for who asks."""
    rows = await session.all("select code, id, project_id from state.package where code = any(%s)", (codes,))
    return [
        {"code": code, "id": str(identity)}
        for code, identity, project in rows
        if allowed(asking.person, Action.READ, project)
    ]
