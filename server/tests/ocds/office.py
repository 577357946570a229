"""A project's records in memory: takes the steps of a plan the way the nouns do, refusing what they refuse."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pmis.approval.governed import merged
from pmis.ocds.mapping import Known, PartyKey, Plan, Step, plan
from pmis.ocds.reader import FoundRelease, read
from pmis.ocds.writer import Publication, dumps, write
from pmis.policy.document import default_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.ocds.values import JsonObject

DATA = Path(__file__).parent.parent / "data" / "ocds"
SIX = sorted(DATA.glob("ocds-213czf-000-00001-0*.json"))
DEFAULT_POLICY = default_policy()
PUBLICATION = Publication(date="2030-02-01T00:00:00Z", publisher="Highways Office", ocid_prefix="ocds-pmis00")


def releases(*documents: Any, name: str = "file.json") -> list[FoundRelease]:
    """The releases of JSON documents, read as a file would be: one as JSON, several as JSON Lines."""
    return list(read("\n".join(json.dumps(one) for one in documents).encode(), name))


def package_of(*many: JsonObject, version: str = "1.1") -> JsonObject:
    return {"version": version, "uri": "https://example.com/1", "publishedDate": "2020-01-01", "releases": list(many)}


def prune(value: Any) -> Any:
    """What a JSON value says in OCDS, where null and nothing are the same."""
    if isinstance(value, dict):
        kept = {key: prune(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, {}, [])}
    return [prune(item) for item in value] if isinstance(value, list) else value


def substance(release: JsonObject) -> JsonObject:
    """A release without what is new in each publication."""
    return prune({key: value for key, value in release.items() if key not in ("id", "date", "tag")})


class Office:
    """The records, by type and external reference."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, JsonObject]] = {"party": {}, "package": {}, "task": {}}
        self.seen: frozenset[str] = frozenset()

    @property
    def known(self) -> Known:
        emails = {party["email"].lower(): key for key, party in self.records["party"].items() if party.get("email")}
        records = deepcopy(self.records)
        return Known(records["package"], records["task"], records["party"], emails, self.seen)

    @property
    def packages(self) -> dict[str, JsonObject]:
        return self.records["package"]

    @property
    def tasks(self) -> dict[str, JsonObject]:
        return self.records["task"]

    @property
    def parties(self) -> dict[str, JsonObject]:
        return self.records["party"]

    @property
    def package(self) -> JsonObject:
        (only,) = self.packages.values()
        return only

    def plan(self, found: Sequence[FoundRelease]) -> Plan:
        return plan(found, self.known)

    def take_in(self, *documents: Any) -> Plan:
        """Plan the documents and apply every step; the plan must hold no error."""
        return self.apply(self.plan(releases(*documents)))

    def take_in_file(self, path: Path) -> Plan:
        return self.apply(self.plan(list(read(path.read_bytes(), path.name))))

    def apply(self, planned: Plan) -> Plan:
        assert [str(error) for error in planned.errors] == []
        for step in planned.steps():
            self._take(step)
        self.seen |= set(planned.idle)
        return planned

    def _take(self, step: Step) -> None:
        records = self.records[step.target_type]
        patch = self._resolved(step.patch)
        if step.operation == "create":
            assert step.key not in records
            first = {"package": {"status": "draft"}, "task": {"status": "pending"}, "party": {}}[step.target_type]
            records[step.key] = {"id": str(uuid4()), "version": 1, "data": {}, **first, **patch}
            if step.target_type == "package":
                records[step.key]["code"] = f"P-{len(records):03d}"
            self._require_whole(step, records[step.key])
            return
        record = records[step.key]
        lifecycle = DEFAULT_POLICY.lifecycles.get(step.target_type)
        if step.operation == "transition":
            assert lifecycle
            taken = lifecycle.check(record["status"], patch["status"])
            needed = {
                "amount_set": ("amount", "currency"),
                "vendor_set": ("vendor_id",),
                "planned_dates_set": ("planned_start", "planned_end"),
            }
            after = {**record, **patch}
            assert all(after.get(name) for guard in taken.guards or () for name in needed.get(guard, ())), step
        elif lifecycle:
            assert record["status"] not in ("completed", "cancelled"), "a frozen record is not patched"
        changed = False
        for name, value in patch.items():
            new = merged(record.get(name), value) if name == "data" else value
            changed |= new != record.get(name)
            record[name] = new
        assert changed, f"nothing to change: {step}"
        record["version"] += 1
        self._require_whole(step, record)

    def _resolved(self, patch: JsonObject) -> JsonObject:
        patch = deepcopy(patch)
        if isinstance(patch.get("vendor_id"), PartyKey):
            vendor = self.parties[patch["vendor_id"]]
            assert vendor["kind"] != "customer"
            patch["vendor_id"] = vendor["id"]
        if "package_id" in patch:
            patch["package_id"] = self.packages[patch["package_id"]]["id"]
        return patch

    def _require_whole(self, step: Step, record: JsonObject) -> None:
        """What the nouns' inputs and rules ask for."""
        from pmis.package.noun import PACKAGES
        from pmis.package.rules import contradictions
        from pmis.party.noun import PARTIES
        from pmis.task.noun import TASKS

        noun = {"party": PARTIES, "package": PACKAGES, "task": TASKS}[step.target_type]
        noun.validated(step.operation, self._resolved(step.patch))
        assert len(step.key) <= 300
        if step.target_type == "package":
            assert contradictions(record) == []
        emails = [party["email"].lower() for party in self.parties.values() if party.get("email")]
        assert len(emails) == len(set(emails))

    def take_in_document(self, other: Office, key: str) -> Plan:
        """Take in what another office exports."""
        (found,) = releases(json.loads(dumps(package_of(other.export(key)))))
        return self.apply(self.plan([found]))

    def export(self, key: str) -> JsonObject:
        """The release that the package is written to, read back as a stranger would."""
        main = self.packages[key]
        awards = [one for name, one in self.packages.items() if name.startswith(f"{key}/awards/")]
        document = write(main, self.parties.values(), self.tasks.values(), PUBLICATION, awards)
        (found,) = read(dumps(document).encode(), "export.json")
        assert found.version == "1.1"
        return found.release
