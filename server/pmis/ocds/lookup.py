"""What a project holds of the processes and parties that a file speaks of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from pmis.kit.db import Reach
from pmis.ocds.keys import KEY_LENGTH
from pmis.ocds.mapping import Known, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from pmis.kit.db import Database, Session
    from pmis.ledger.vault import Vault
    from pmis.ocds.reader import FoundRelease
    from pmis.ocds.values import JsonObject

_PROCESS: Final = KEY_LENGTH - 65
"""How much of a name tells which process it belongs to; see `keys.process_prefix`."""


async def look_up(database: Database, vault: Vault, project_id: UUID, found: Sequence[FoundRelease]) -> Known:
    """What the project holds of the processes and parties in the releases, deleted records included."""
    prefixes = sorted(wanted(found).prefixes)
    async with database.read(Reach.of(frozenset({project_id}))) as session:
        packages = await _of_processes(session, "package", project_id, prefixes)
        tasks = await _of_processes(session, "task", project_id, prefixes)
    then = await to_thread.run_sync(wanted, found, packages)
    async with database.read(Reach.of(frozenset({project_id}))) as session:
        rows = await session.all(
            "select doc from state.party where project_id = %s and external_ref = any(%s)",
            (project_id, sorted(then.parties)),
        )
        parties = {str(one["external_ref"]): one for one in await opened(session, vault, [doc for (doc,) in rows])}
        holders = await session.all(
            "select lower(email), coalesce(external_ref, id::text) from state.party "
            "where project_id = %s and lower(email) = any(%s)",
            (project_id, sorted(then.emails)),
        )
        seen = await session.all(
            "select fingerprint from ledger.import_seen where project_id = %s and fingerprint = any(%s)",
            (project_id, [one.fingerprint for one in found]),
        )
    return Known(packages, tasks, parties, dict(holders), frozenset(fingerprint for (fingerprint,) in seen))


async def _of_processes(
    session: Session, table: str, project_id: UUID, prefixes: Sequence[str]
) -> dict[str, JsonObject]:
    # What follows a process in a name is set apart by a slash, and a name that grew too long keeps its beginning: so
    # the processes are compared as wholes, at once, however many there are.
    rows = await session.all(
        f"select external_ref, doc from state.{table} where project_id = %s and external_ref like 'ocds:%%' "
        "and left(split_part(external_ref, '/', 1), %s) = any(%s)",
        (project_id, _PROCESS, list(prefixes)),
    )
    return {reference: json.loads(doc) for reference, doc in rows}


async def opened(session: Session, vault: Vault, documents: Iterable[str]) -> list[JsonObject]:
    """Parties with the contacts that the vault holds for them; None where they were erased. Bank details stay shut."""
    parties: list[dict[str, Any]] = [json.loads(doc) for doc in documents]
    refs = [str(one["contacts"]) for one in parties if one.get("contacts")]
    values = await vault.open(session, refs) if refs else {}
    return [{**one, "contacts": values.get(str(one.get("contacts"))), "bank_details": None} for one in parties]


async def any_there(session: Session, project_id: UUID, references: Sequence[str]) -> bool:
    """Whether a record of the project has one of the outside references by now."""
    for table in ("package", "party", "task") if references else ():
        if await session.one(
            f"select 1 from state.{table} where project_id = %s and external_ref = any(%s) limit 1",
            (project_id, list(references)),
        ):
            return True
    return False


async def renamed(session: Session, project_id: UUID, ocids: Sequence[str]) -> list[tuple[str, str]]:
    """Packages that came from these processes and have an outside reference of another kind now: ocid and code."""
    rows = await session.all(
        "select doc::jsonb #>> '{data,ocds,ocid}', code from state.package where project_id = %s "
        "and (external_ref is null or external_ref not like 'ocds:%%') and strpos(doc, '\"ocds\":{') > 0 "
        "and doc::jsonb #>> '{data,ocds,ocid}' = any(%s) order by number",
        (project_id, list(ocids)),
    )
    return [(ocid, code) for ocid, code in rows]
