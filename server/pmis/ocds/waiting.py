"""Whether a proposal of the same content waits already, whatever ids and seals it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmis.approval.models import Approval
from pmis.approval.registry import NOUNS
from pmis.kit.canonical import canonical, sha256_hex
from pmis.ledger.vault import PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from pmis.approval.change import Change
    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.vault import Vault


def content_digest(changes: Sequence[Change]) -> str:
    """What the changes do, with new records named by their outside references instead of their ids."""
    names = {
        str(change.target): f"new {change.target_type} {change.patch['external_ref']}"
        for change in changes
        if change.operation == "create" and change.patch.get("external_ref")
    }

    def named(value: Any) -> Any:  # noqa: ANN401 - JSON values
        return names.get(value, value) if isinstance(value, str) else value

    return sha256_hex(
        canonical(
            [
                {
                    **change.model_dump(mode="json"),
                    "target": named(str(change.target)),
                    "patch": {name: named(value) for name, value in change.patch.items()},
                }
                for change in changes
            ]
        )
    )


async def awaiting(
    session: WriteSession, project_id: UUID, targets: Collection[UUID], references: Collection[str]
) -> list[Approval]:
    """The open approvals that change these records, or make records of these references; the oldest first."""
    if not targets:
        return []
    rows = await session.all(
        "select doc, id in (select approval_id from state.approval_target where target_id = any(%s) and open) "
        "from state.approval where project_id = %s and status in ('pending', 'confirmation_required') "
        "and (expires_at is null or expires_at > %s) order by id",
        (list(targets), project_id, session.now),
    )
    found: list[Approval] = []
    for doc, touches in rows:
        # Only those that could make such a record are read whole.
        if touches or any(f'"{reference}"' in doc for reference in references):
            approval = Approval.model_validate_json(doc)
            if touches or any(change.patch.get("external_ref") in references for change in approval.changes):
                found.append(approval)
    return found


async def holds(session: Session, vault: Vault, approval: Approval, digest: str) -> bool:
    """Whether an import waits as this approval with the very same content, still to be judged by the same policy."""
    if approval.source != "import":
        return False
    row = await session.one("select version from state.policy")
    if row is None or row[0] != approval.policy_version:
        return False
    return content_digest(await _opened(session, vault, approval.changes)) == digest


async def _opened(session: Session, vault: Vault, changes: Sequence[Change]) -> list[Change]:
    sealed = {
        (place, name): ref
        for place, change in enumerate(changes)
        for name in NOUNS[change.target_type].secret_fields
        if isinstance(ref := change.patch.get(name), str) and ref.startswith(PREFIX)
    }
    values = await vault.open(session, list(sealed.values())) if sealed else {}
    return [
        change.model_copy(
            update={
                "patch": {
                    name: values[sealed[place, name]] if (place, name) in sealed else value
                    for name, value in change.patch.items()
                }
            }
        )
        for place, change in enumerate(changes)
    ]
