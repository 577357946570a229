"""What packages tell the governed path."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.approval.errors import AlreadyExistsError, BadReferenceError, GuardRefusedError
from pmis.approval.governed import SEARCHABLE, Noun
from pmis.kit.errors import InvalidInputError
from pmis.package import rules
from pmis.package.models import Package, PackageType
from pmis.package.schemas import (
    PackageCreate,
    PackagePatch,
    PackageTransition,
    PackageTypeCreate,
    PackageTypePatch,
)
from pmis.policy.document import Writer
from pmis.policy.lifecycle import GUARDS, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.approval.change import Change
    from pmis.approval.governed import Situation
    from pmis.kit.db import Session, Statement, WriteSession
    from pmis.ledger.event import Fact
    from pmis.policy.document import Policy
    from pmis.policy.lifecycle import Transition

_LAST_NUMBER: Final = "select last from state.package_number where project_id = %s for update"
# Two that begin a project's numbers at once wait for each other here, as there is nothing yet that could be locked.
_FIRST_NUMBER: Final = (
    "insert into state.package_number as counter values (%s, 1) "
    "on conflict (project_id) do update set last = counter.last + 1 returning last"
)
WITHOUT_CODE = {"number": 0, "code": "—"}
"""What a package has until it is applied and its code is given out."""


class PackageNoun(Noun[Package]):
    """Packages: coded, guarded, frozen at the end."""

    stream_type = "package"
    label = "package"
    model = Package
    columns = (
        "number",
        "code",
        "status",
        "package_type",
        "owner_id",
        "vendor_id",
        "amount",
        "currency",
        "planned_end",
        "external_ref",
        "deleted",
    )
    child_tables = (SEARCHABLE,)
    create_input = PackageCreate
    patch_input = PackagePatch
    transition_input = PackageTransition
    lifecycle = "package"
    operations = frozenset({"create", "patch", "transition", "delete", "restore"})
    merged_fields = frozenset({"data"})

    def children(self, entity: Package) -> dict[str, list[tuple[Any, ...]]]:
        """The text by which the package is found."""
        body = f"{entity.code.replace('-', ' ')} {entity.title}\n{entity.description}"
        return self.found_by(entity, body, deleted=entity.deleted)

    def first_fields(self, change: Change, situation: Situation) -> dict[str, Any]:
        """The fields of a draft; the code follows when it is applied."""
        return {**super().first_fields(change, situation), **WITHOUT_CODE}

    def numbering(self, project_id: UUID | None) -> Statement | None:
        """The last number that the project gave out, under a lock that lasts until the commit: so no number is lost."""
        return None if project_id is None else (_LAST_NUMBER, (project_id,))

    async def numbered(self, session: WriteSession, fact: Fact, project: Mapping[str, Any] | None) -> Fact:
        """Give out the project's next number."""
        if fact.type != "package.created" or project is None:
            return fact
        home = UUID(project["id"])
        last = await session.all(_LAST_NUMBER, (home,))
        if last:
            number = last[0][0] + 1
            session.defer("select state.number_package(%s, %s)", (home, number))
        else:
            first = await session.one(_FIRST_NUMBER, (home,))
            number = first[0] if first else 0
        fields = {**fact.payload["fields"], "number": number, "code": f"{project['prefix']}-{number:03d}"}
        return replace(fact, payload={**fact.payload, "fields": fields})

    def decide(self, entity: Package | None, change: Change, situation: Situation) -> list[Fact]:
        """The facts; raises InvalidInputError when the package would contradict itself."""
        caused = super().decide(entity, change, situation)
        after = self._after(entity, change)
        found = rules.contradictions(after)
        if found and change.operation in ("create", "patch", "transition"):
            raise InvalidInputError(
                f"{found[0]}.", errors=[{"pointer": "/", "message": text, "type": "contradiction"} for text in found]
            )
        return caused

    def stamps(
        self, before: Mapping[str, Any], after: Mapping[str, Any], situation: Situation
    ) -> dict[str, dict[str, Any]]:
        """Work that begins or ends today has begun or ended today, unless the proposal names another day.

        What is taken up again has not ended.
        """
        lifecycle = situation.policy.lifecycles["package"]
        if before["actual_end"] is not None and lifecycle.phase(before["status"]) is Phase.FROZEN:
            return {"actual_end": {"from": before["actual_end"], "to": None}}
        if situation.writer is Writer.IMPORT:
            # What is imported happened when its source says it did, if it says so at all.
            return {}
        today = situation.at.astimezone(_zone(situation.project)).date().isoformat()
        if after["status"] == "active" and before["status"] == "awarded" and after["actual_start"] is None:
            return {"actual_start": {"from": None, "to": today}}
        if after["status"] == "completed" and after["actual_end"] is None:
            return {"actual_end": {"from": None, "to": max(today, after["actual_start"] or today)}}
        return {}

    def _after(self, entity: Package | None, change: Change) -> dict[str, Any]:
        before: Mapping[str, Any] = entity.plain if entity else {}
        return {**before, **change.patch}

    def own_facts(
        self, entity: Package | None, change: Change, fields: frozenset[str], situation: Situation
    ) -> Mapping[str, Any]:
        """Money, its share of the budget, and the slip of the planned end."""
        del fields
        before: Mapping[str, Any] = entity.plain if entity else {}
        after = self._after(entity, change)
        amount_before, currency_before = rules.money(before)
        amount_after, currency_after = rules.money(after)
        project = situation.project or {}
        budget = project.get("budget")
        return {
            "amount_before": amount_before,
            "amount_after": amount_after,
            "currency_before": currency_before,
            "currency_after": currency_after,
            "budget": None if budget is None else Decimal(budget),
            "budget_currency": project.get("currency"),
            "slip_days": rules.slip_days(before.get("planned_end"), after.get("planned_end")),
        }

    async def missing(self, session: Session, record: Mapping[str, Any], step: Transition, policy: Policy) -> list[str]:
        """What the step needs that is not there, tasks that are still open included."""
        found = await super().missing(session, record, step, policy)
        if "no_open_tasks" in (step.guards or ()) and await _has_open_tasks(session, UUID(record["id"]), [], policy):
            found.append(GUARDS["no_open_tasks"])
        return found

    async def check_references(
        self, session: Session, change: Change, entity: Package | None, situation: Situation
    ) -> None:
        """Vendor and owner are of this project, extra fields fit their type, outside references are unique."""
        patch = change.patch
        if patch.get("vendor_id"):
            await _require_vendor(session, change, situation)
        if patch.get("owner_id"):
            await require_member(session, change.project_id, patch["owner_id"], "owner_id")
        if patch.get("external_ref") and patch["external_ref"] != (entity.external_ref if entity else None):
            await require_unused_ref(session, "package", change.project_id, patch["external_ref"])
        if "package_type" in patch or patch.get("data"):
            await self._check_data(session, change, entity)
        if change.operation == "transition" and entity is not None:
            await _require_no_open_tasks(session, change, entity, situation)

    async def _check_data(self, session: Session, change: Change, entity: Package | None) -> None:
        name = change.patch.get("package_type", entity.package_type if entity else None)
        if name is None:
            return
        from pmis.package.extra import BrokenSchemaError, faults_of  # noqa: PLC0415 - its library loads slowly

        row = await session.one(
            "select (doc::jsonb -> 'fields_schema')::text from state.package_type where project_id = %s and name = %s",
            (change.project_id, name),
        )
        if row is None:
            raise BadReferenceError(f"package_type: this project has no package type {name!r}.", field="package_type")
        before: Mapping[str, Any] = entity.plain if entity else {}
        changed = self.diff(before, {"data": change.patch.get("data", {})}).get("data")
        data = changed["to"] if changed else before.get("data", {})
        try:
            found = faults_of(json.loads(row[0]), data)
        except BrokenSchemaError as error:
            raise InvalidInputError(f"package_type: {error}. Mend the package type first.") from None
        errors = [
            {"pointer": "/data/" + "/".join(map(str, error.absolute_path)), "message": error.message, "type": "schema"}
            for error in sorted(found, key=lambda error: [str(part) for part in error.absolute_path])
        ]
        if errors:
            raise InvalidInputError(f"{errors[0]['pointer'][1:]}: {errors[0]['message']}", errors=errors)


async def _require_vendor(session: Session, change: Change, situation: Situation) -> None:
    vendor = UUID(change.patch["vendor_id"])
    proposed = situation.known.get(vendor)
    if proposed is not None:
        return
    row = await session.one(
        "select kind from state.party where id = %s and project_id = %s and not deleted", (vendor, change.project_id)
    )
    if row is None:
        raise BadReferenceError("vendor_id: there is no such party in this project.", field="vendor_id")
    if row[0] == "customer":
        raise BadReferenceError("vendor_id: this party is a customer, not a vendor.", field="vendor_id")


async def _require_no_open_tasks(session: Session, change: Change, entity: Package, situation: Situation) -> None:
    step = situation.policy.lifecycles["package"].find(entity.status, change.patch["status"])
    if step is None or "no_open_tasks" not in (step.guards or ()):
        return
    ended = _ended(situation.policy)
    # Earlier changes of the same proposal count: they may end tasks, delete them, or bring new ones.
    proposed = [one for one in situation.known.values() if getattr(one, "package_id", None) == entity.id]
    opened = await _has_open_tasks(session, entity.id, [one.id for one in proposed], situation.policy)
    left = [one for one in proposed if getattr(one, "status", None) not in ended and not getattr(one, "deleted", False)]
    if opened or left:
        missing = [GUARDS["no_open_tasks"]]
        raise GuardRefusedError(f"{entity.status} → {step.to} needs {missing[0]}.", missing=missing, step=step.name)


def _ended(policy: Policy) -> list[str]:
    return [name for name, state in policy.lifecycles["task"].states.items() if state.phase is Phase.FROZEN]


async def _has_open_tasks(session: Session, package: UUID, besides: Sequence[UUID], policy: Policy) -> bool:
    row = await session.one(
        "select 1 from state.task "
        "where package_id = %s and id <> all(%s) and not deleted and status <> all(%s) limit 1",
        (package, besides, _ended(policy)),
    )
    return row is not None


async def require_member(session: Session, project_id: UUID | None, person: str, field: str) -> None:
    """Raise BadReferenceError unless the person has a role in the project."""
    row = await session.one(
        "select 1 from state.membership where project_id = %s and person_id = %s and roles <> '{}'",
        (project_id, UUID(person)),
    )
    if row is None:
        raise BadReferenceError(f"{field}: this person has no role in the project.", field=field)


async def require_unused_ref(session: Session, table: str, project_id: UUID | None, ref: str) -> None:
    """Raise AlreadyExistsError when another record of the project carries the outside reference."""
    row = await session.one(
        f"select id from state.{table} where project_id = %s and external_ref = %s", (project_id, ref)
    )
    if row is not None:
        raise AlreadyExistsError(
            f"external_ref: {ref} is taken by another {table} of this project.", field="external_ref"
        )


def _zone(project: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - tzinfo
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    return ZoneInfo(project["timezone"] if project else "UTC")


class PackageTypeNoun(Noun[PackageType]):
    """Kinds of package, each with a schema for its extra fields."""

    stream_type = "package_type"
    label = "package type"
    model = PackageType
    columns = ("name",)
    create_input = PackageTypeCreate
    patch_input = PackageTypePatch

    async def check_references(
        self, session: Session, change: Change, entity: PackageType | None, situation: Situation
    ) -> None:
        """Names are unique in the project."""
        del situation
        if entity is None and await session.one(
            "select 1 from state.package_type where project_id = %s and name = %s",
            (change.project_id, change.patch["name"]),
        ):
            raise AlreadyExistsError(f"name: the project has a package type {change.patch['name']!r}.", field="name")


PACKAGES = PackageNoun()
PACKAGE_TYPES = PackageTypeNoun()
