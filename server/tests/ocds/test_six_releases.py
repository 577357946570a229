"""One procurement in six releases, from planning to implementation, and two more in the shape of 1.0."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from pmis.ocds.merge import merge
from pmis.ocds.reader import read
from pmis.ocds.upgrade import upgrade
from tests.ocds.office import DATA, SIX, Office, substance

PROCESS = "ocds:ocds-213czf-000-00001"
BARNET, ANYCORP, BETACORP = "ocds-org:GB-LAC-E09000003", "ocds-org:GB-COH-11111111", "ocds-org:GB-COH-22222222"


def kept(record: Any) -> Any:
    return {name: value for name, value in record.items() if name not in ("id", "data", "version", "code")}


def test_the_six_releases_in_order_tell_one_procurement():
    office = Office()
    told: list[Any] = []
    for path in SIX:
        planned = office.take_in_file(path)
        assert planned.notices == ()
        told.append([(step.operation, step.target_type, step.patch.get("status")) for step in planned.steps()])
    planning, tender, amendment, award, contract, implementation = told
    assert planning == [
        ("create", "party", None),
        ("create", "package", None),
        ("create", "task", None),
        ("transition", "task", "in_progress"),
        ("transition", "task", "completed"),
        ("create", "task", None),
    ]
    steps = [("transition", "package", status) for status in ("submitted", "in_review", "approved")]
    assert tender == [("patch", "package", None), *steps]
    assert amendment == [("patch", "package", None)]
    assert award == [
        ("create", "party", None),
        ("create", "party", None),
        ("patch", "package", None),
        ("transition", "package", "awarded"),
    ]
    assert contract == [("patch", "package", None), ("transition", "package", "active")]
    assert implementation == [("patch", "package", None)]
    assert kept(office.package) == {
        "status": "active",
        "title": "Planned cycle lane improvements",
        "description": "Tenders solicited for work to build new cycle lanes in the centre of town.",
        "amount": "11000000",
        "currency": "GBP",
        "planned_start": "2010-07-01",
        "planned_end": "2011-06-30",
        "actual_start": "2010-07-01",
        "vendor_id": office.parties[ANYCORP]["id"],
        "external_ref": PROCESS,
    }


def test_the_award_brings_its_vendor_and_its_amount_in_one_step():
    office = Office()
    for path in SIX[:3]:
        office.take_in_file(path)
    planned = office.plan(list(read(SIX[3].read_bytes(), SIX[3].name)))
    (award,) = [step for step in planned.steps() if step.operation == "transition"]
    assert award.patch == {"status": "awarded", "vendor_id": ANYCORP, "amount": "11000000"}
    assert str(award.place) == "ocds-213czf-000-00001-04-award.json /releases/0"


def test_parties_and_tasks_of_the_procurement():
    office = Office()
    for path in SIX:
        office.take_in_file(path)
    assert {key: (party["name"], party["kind"], party["email"]) for key, party in office.parties.items()} == {
        BARNET: ("London Borough of Barnet", "customer", "procurement-team@example.com"),
        ANYCORP: ("AnyCorp Cycle Provision", "vendor", "contracts@anycorp.example"),
        BETACORP: ("Beta Corp Construction", "vendor", "bids@betacorp.example"),
    }
    barnet = office.parties[BARNET]
    assert barnet["contacts"] == [
        {
            "name": "Procurement Team",
            "email": "procurement-team@example.com",
            "phone": "01234 345 346",
            "url": "http://example.com/contact/",
        }
    ]
    assert barnet["data"]["identifier"]["id"] == "E09000003"
    assert barnet["data"]["address"]["postalCode"] == "N11 1NP"
    assert barnet["data"]["ocds"]["contactPoint"]["faxNumber"] == "01234 345 345"
    approval, consultation = office.tasks.values()
    assert kept(approval) == {
        "package_id": office.package["id"],
        "title": "Strategic outline procurement plan approval",
        "description": "Approval of the strategic outline procurement plan by the procurement steering group",
        "due_date": "2009-03-14",
        "status": "completed",
        "external_ref": f"{PROCESS}/planning/milestones/1.0",
    }
    assert (consultation["status"], consultation["due_date"]) == ("pending", "2009-05-01")
    assert approval["data"]["ocds"]["milestone"]["dateMet"] == "2009-03-14T17:00:00Z"


def test_all_of_them_again_change_nothing_in_whatever_portions():
    office = Office()
    for path in SIX:
        office.take_in_file(path)
    before = json.dumps(office.records)
    for path in SIX:
        planned = office.take_in_file(path)
        assert (planned.steps(), planned.releases, planned.repeated) == ([], 1, 1)
    together = office.plan([one for path in SIX for one in read(path.read_bytes(), path.name)])
    assert (together.steps(), together.errors, together.repeated) == ([], (), 6)
    assert json.dumps(office.records) == before


def test_one_file_with_all_six_in_any_order_ends_where_the_six_do():
    one_by_one, at_once = Office(), Office()
    for path in SIX:
        one_by_one.take_in_file(path)
    documents = [json.loads(path.read_text()) for path in SIX]
    planned = at_once.take_in(*reversed(documents))
    assert planned.notices == ()
    for name in ("package", "task", "party"):
        ours = {key: kept(record) for key, record in at_once.records[name].items()}
        theirs = {key: kept(record) for key, record in one_by_one.records[name].items()}
        for records, office in ((ours, at_once), (theirs, one_by_one)):
            for record in records.values():
                if "vendor_id" in record:
                    record["vendor_id"] = next(
                        key for key, party in office.parties.items() if party["id"] == record["vendor_id"]
                    )
                record.pop("package_id", None)
        assert ours == theirs
    assert at_once.package["data"] == one_by_one.package["data"]


def test_a_release_out_of_order_is_refused_with_both_dates():
    office = Office()
    office.take_in_file(SIX[0])
    office.take_in_file(SIX[2])
    planned = office.plan(list(read(SIX[1].read_bytes(), "tender.json")))
    (error,) = planned.errors
    assert str(error) == (
        "tender.json /releases/0/date: it is dated 2010-03-15T09:30:00Z, before 2010-03-20T09:45:00Z of a release that "
        "was imported; import releases in the order of their dates"
    )
    assert planned.steps() == []


def test_the_round_trip_keeps_everything_that_the_six_releases_said():
    office = Office()
    for path in SIX:
        office.take_in_file(path)
    exported = office.export(PROCESS)
    assert substance(exported) == substance(json.loads((DATA / "compiled.json").read_text()))
    assert exported["tag"] == ["planning", "tender", "award", "contract", "implementation"]


def test_after_each_release_the_round_trip_holds():
    office = Office()
    compiled: Any = {}
    for path in SIX:
        office.take_in_file(path)
        (found,) = read(path.read_bytes(), path.name)
        compiled = merge(compiled, found.release, found.version)
        assert substance(office.export(PROCESS)) == substance(compiled)


class TestVersion10:
    FILES = sorted((DATA / "made_1_0").glob("*.json"))
    PROCESS = "ocds:ocds-made10-7"

    def taken_in(self) -> Office:
        office = Office()
        for path in self.FILES:
            planned = office.take_in_file(path)
            assert planned.notices == ()
        return office

    def test_the_procurement(self):
        office = self.taken_in()
        hillside = office.parties["ocds-org:GB-COH-33333333"]
        assert kept(office.package) == {
            "status": "active",
            "title": "Pavement repairs",
            "description": "Repair of 1.2 km of pavement.",
            "amount": "84999.99",
            "currency": "GBP",
            "planned_start": "2016-05-01",
            "planned_end": "2016-09-30",
            "actual_start": "2016-05-01",
            "vendor_id": hillside["id"],
            "external_ref": self.PROCESS,
        }
        assert {(party["name"], party["kind"]) for party in office.parties.values()} == {
            ("Borough of Westmarsh", "customer"),
            ("Hillside Paving", "vendor"),
            ("Marsh & Daughters", "vendor"),
        }
        assert {(task["title"], task["status"], task["due_date"]) for task in office.tasks.values()} == {
            ("Site visit", "pending", "2016-02-10"),
            ("Half of the pavement", "completed", "2016-07-15"),
        }

    def test_again_changes_nothing(self):
        office = self.taken_in()
        for path in self.FILES:
            assert office.take_in_file(path).steps() == []

    def test_it_is_written_as_1_1_with_everything_that_was_said(self):
        office = self.taken_in()
        compiled: Any = {}
        for path in self.FILES:
            (found,) = read(path.read_bytes(), path.name)
            compiled = merge(compiled, upgrade(found.release), found.version)
        exported = office.export(self.PROCESS)
        assert substance(exported) == substance(compiled)
        assert exported["planning"]["budget"]["amount"]["amount"] == Decimal("90000.5")
        assert [(party["id"], party["roles"]) for party in exported["parties"]][:2] == [
            ("GB-LAC-E09000099", ["procuringEntity", "buyer", "payer"]),
            ("GB-COH-33333333", ["tenderer", "supplier", "payee"]),
        ]


@pytest.mark.parametrize("files", [SIX, TestVersion10.FILES], ids=["1.1", "1.0"])
def test_what_was_written_builds_the_same_records_elsewhere(files):
    here, there = Office(), Office()
    for path in files:
        here.take_in_file(path)
    (key,) = here.packages
    there.take_in({"version": "1.1", "releases": [json.loads(json.dumps(here.export(key), default=float))]})
    for name in ("package", "task", "party"):
        ours, theirs = here.records[name], there.records[name]
        assert ours.keys() == theirs.keys()
        for ref, record in ours.items():
            links = {"vendor_id", "package_id", "actual_start"}
            assert {field: value for field, value in kept(record).items() if field not in links} == {
                field: value for field, value in kept(theirs[ref]).items() if field not in links
            }
    assert substance(there.export(key)) == substance(here.export(key))
