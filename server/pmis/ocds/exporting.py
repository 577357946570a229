"""Exports: a package and what belongs to it as an OCDS release package, and the event that says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from pmis.approval.errors import DeletedRecordError
from pmis.kit.canonical import sha256_hex
from pmis.kit.ids import uuid7
from pmis.ledger.event import Fact
from pmis.ledger.store import record
from pmis.ocds.keys import package_key, process_prefix
from pmis.ocds.lookup import opened
from pmis.ocds.memory import recall, remembered
from pmis.ocds.writer import dumps, write

if TYPE_CHECKING:
    from pmis.kit.db import Session, WriteSession
    from pmis.ledger.event import Origin
    from pmis.ledger.vault import Vault
    from pmis.ocds.values import JsonObject
    from pmis.ocds.writer import Publication


@dataclass(frozen=True)
class Export:
    """A release package as text, and what it was made of."""

    ocid: str
    text: str
    package_id: UUID
    project_id: UUID


async def release_of(session: Session, vault: Vault, package: JsonObject, publication: Publication) -> Export:
    """The release package of the process that a package stands for, or has an award of.

    What was deleted here is left out. Raises DeletedRecordError when that is the package itself.
    """
    project_id = UUID(str(package["project_id"]))
    packages = {str(package["external_ref"]): package}
    if part := remembered(package):
        ocid = str(part["ocid"])
        packages = await _process(session, project_id, ocid) | packages
        if part.get("award"):
            package = packages.get(package_key(ocid), package)
    if package.get("deleted_at"):
        raise DeletedRecordError(f"{package['code']} was deleted. Restore it before exporting it.")
    awards = [one for one in packages.values() if one is not package and not one.get("deleted_at")]
    ids = [str(one["id"]) for one in (package, *awards)]
    tasks = await session.all("select doc from state.task where package_id = any(%s::uuid[]) order by id", (ids,))
    document = write(
        package,
        await _parties(session, vault, project_id, [package, *awards]),
        [json.loads(doc) for (doc,) in tasks],
        publication,
        awards,
    )
    releases = cast("list[JsonObject]", document["releases"])
    return Export(str(releases[0]["ocid"]), dumps(document), UUID(str(package["id"])), project_id)


async def _process(session: Session, project_id: UUID, ocid: str) -> dict[str, JsonObject]:
    prefix = process_prefix(ocid)
    rows = await session.all(
        "select external_ref, doc from state.package where project_id = %s "
        "and (external_ref = %s or starts_with(external_ref, %s)) order by number",
        (project_id, package_key(ocid), f"{prefix}/awards/" if prefix == package_key(ocid) else prefix),
    )
    return {reference: json.loads(doc) for reference, doc in rows}


async def _parties(session: Session, vault: Vault, project_id: UUID, packages: list[JsonObject]) -> list[JsonObject]:
    keys: set[str] = set()
    for one in packages:
        if part := remembered(one):
            found = recall(str(part["ocid"]), {package_key(str(part["ocid"])): one})
            keys.update(found.parties.values())
    vendors = [str(one["vendor_id"]) for one in packages if one.get("vendor_id")]
    rows = await session.all(
        "select doc from state.party where project_id = %s and (external_ref = any(%s) or id = any(%s::uuid[])) "
        "order by id",
        (project_id, sorted(keys), vendors),
    )
    return await opened(session, vault, [doc for (doc,) in rows])


def tell(session: WriteSession, origin: Origin, export: Export) -> None:
    """Put `export.made` into the log, with the digest of what was given out.

    An export changes no record, so its event stands in a stream of its own that no projection folds: it would otherwise
    move the package's version, and make void whatever waits for the package.
    """
    payload: dict[str, Any] = {
        "format": "ocds-1.1",
        "ocid": export.ocid,
        "package_id": str(export.package_id),
        "bytes": len(export.text.encode()),
        "sha256": sha256_hex(export.text),
    }
    record(session, "export", uuid7(), Fact("export.made", payload), origin=origin, project_id=export.project_id)
