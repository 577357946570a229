"""Opening what the vault holds, for those who may see it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from pmis.kit.text import is_sealed
from pmis.ledger.vault import PREFIX
from pmis.policy.access import Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from pmis.kit.db import Session
    from pmis.ledger.vault import Vault
    from pmis.policy.access import Principal

PROTECTED: Final = "protected"
ERASED: Final = "erased"
_SEEN_BY: Final = {
    "bank_details": frozenset({Role.ADMIN, Role.EXECUTIVE, Role.AUDITOR}),
    "contacts": frozenset(Role),
    "credential": frozenset[Role](),
    "invited_address": frozenset({Role.ADMIN, Role.EXECUTIVE, Role.AUDITOR}),
    "text": frozenset(Role),
}
"""The fields that hold references, and who sees what lies behind them. A reference anywhere else stays closed: whoever
got hold of one must not be able to have it opened by writing it into a field of their own."""


def _refs(value: Any) -> Iterable[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        value = list(cast("dict[str, Any]", value).values())
    if isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _refs(item)
    elif is_sealed(value):
        yield value


def _opened(value: Any, values: dict[str, Any], visible: frozenset[Role], name: str) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        record = cast("dict[str, Any]", value)
        # In a diff the name of the field stands beside its values, in a change above them.
        beside = str(record["field"]) if isinstance(record.get("field"), str) else name
        names = {"before": beside, "after": beside, "from": name, "to": name}
        return {key: _opened(item, values, visible, names.get(key, key)) for key, item in record.items()}
    if isinstance(value, list):
        return [_opened(item, values, visible, name) for item in cast("list[Any]", value)]
    if name not in _SEEN_BY or not is_sealed(value):
        return value
    if visible.isdisjoint(_SEEN_BY[name]):
        return PROTECTED
    opened = values.get(value)
    return ERASED if opened is None else opened


async def reveal(
    session: Session, vault: Vault, principal: Principal, docs: list[str], *, project: UUID | None = None
) -> list[str]:
    """The documents with their references opened as far as the principal may see them.

    Documents without references come back as they are, unparsed. `project` is where they lie, for those that do not
    say so themselves.
    """
    if not any(PREFIX in doc for doc in docs):
        return docs
    parsed: dict[int, Any] = {i: json.loads(doc) for i, doc in enumerate(docs) if PREFIX in doc}
    values = await vault.open(session, sorted({ref for value in parsed.values() for ref in _refs(value)}))
    result = list(docs)
    for i, value in parsed.items():
        where = _project(value) or project
        visible = principal.roles_in(where) | (principal.roles_in(None) & {Role.AUDITOR})
        result[i] = json.dumps(_opened(value, values, visible, ""), ensure_ascii=False, separators=(",", ":"))
    return result


def _project(value: dict[str, Any]) -> UUID | None:
    from uuid import UUID  # noqa: PLC0415

    found = value.get("project_id")
    return UUID(found) if found else None
