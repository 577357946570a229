"""What was changed here goes into the release where it belongs; what never was in OCDS can be written too."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from pmis.ocds.keys import package_key
from pmis.ocds.reader import read
from pmis.ocds.writer import Publication, dumps, write
from tests.ocds.office import PUBLICATION, SIX, Office, releases, substance
from tests.ocds.test_mapping import ALPHA, AWARD, BETA, CONTRACT, MAIN, TENDER, TestAwards, doc, release

ALPHA_KEY = "ocds-org:XX-REG-2"


@pytest.fixture
def office() -> Office:
    office = Office()
    milestone = {"id": "m", "title": "Hand over", "dueDate": "2020-12-01T12:00:00Z", "status": "scheduled"}
    office.take_in(doc(TENDER, AWARD, CONTRACT))
    office.take_in(
        doc(release(4, "contractUpdate", contracts=[{"id": "c1", "awardID": "a1", "milestones": [milestone]}]))
    )
    return office


def test_nothing_changed_here_is_nothing_changed_there(office):
    before = substance(office.export(MAIN))
    office.package.update(amount="91.00", title="Works")
    assert substance(office.export(MAIN)) == before


@pytest.mark.parametrize(
    ("change", "where", "value"),
    [
        ({"title": "Renamed"}, "tender/title", "Renamed"),
        ({"description": "Told"}, "tender/description", "Told"),
        ({"amount": "92.50"}, "contracts/0/value", {"amount": Decimal("92.50"), "currency": "EUR"}),
        ({"amount": "92", "currency": "USD"}, "contracts/0/value", {"amount": 92, "currency": "USD"}),
        ({"planned_end": "2021-01-31"}, "contracts/0/period/endDate", "2021-01-31T00:00:00Z"),
        ({"status": "completed"}, "contracts/0/status", "terminated"),
        ({"status": "cancelled"}, "contracts/0/status", "cancelled"),
        ({"status": "cancelled"}, "awards/0/status", "cancelled"),
        ({"status": "on_hold"}, "contracts/0/status", "active"),
    ],
)
def test_a_change_made_here_is_written_where_the_field_came_from(office, change, where, value):
    office.package.update(change)
    found: Any = office.export(MAIN)
    for part in where.split("/"):
        found = found[int(part)] if part.isdigit() else found[part]
    assert found == value


@pytest.mark.parametrize("name", ["amount", "planned_start", "planned_end"])
def test_what_was_taken_away_here_is_said_by_no_stage(office, name):
    office.package[name] = None
    if name == "amount":
        office.package["currency"] = None
    again = Office()
    again.take_in_document(office, MAIN)
    assert again.package.get(name) is None


def test_another_vendor_is_the_awards_supplier(office):
    beta = office.parties["ocds-org:XX-REG-3"]
    office.package["vendor_id"] = beta["id"]
    assert office.export(MAIN)["awards"][0]["suppliers"] == [{"id": "XX-REG-3", "name": "Beta"}]


def test_a_vendor_that_the_process_does_not_know_is_added(office):
    office.parties["ocds-org:XX-REG-9"] = {
        "id": str(uuid4()),
        "name": "Gamma",
        "kind": "vendor",
        "email": "g@g.example",
        "external_ref": "ocds-org:XX-REG-9",
        "data": {"identifier": {"scheme": "XX-REG", "id": "9"}},
    }
    office.package["vendor_id"] = office.parties["ocds-org:XX-REG-9"]["id"]
    exported = office.export(MAIN)
    assert exported["awards"][0]["suppliers"] == [{"id": "XX-REG-9", "name": "Gamma"}]
    assert exported["parties"][-1] == {
        "id": "XX-REG-9",
        "name": "Gamma",
        "roles": ["supplier"],
        "identifier": {"scheme": "XX-REG", "id": "9"},
        "contactPoint": {"email": "g@g.example"},
    }


def test_a_party_that_was_changed_here(office):
    alpha = office.parties[ALPHA_KEY]
    alpha.update(
        name="Alpha & Sons",
        email="new@alpha.example",
        contacts=[{"name": "Ann", "email": "new@alpha.example", "phone": "1", "role": None}],
    )
    alpha["data"]["address"] = {"locality": "Elsewhere"}
    (party,) = [one for one in office.export(MAIN)["parties"] if one["id"] == "XX-REG-2"]
    assert party == {
        "id": "XX-REG-2",
        "name": "Alpha & Sons",
        "roles": ["supplier"],
        "address": {"locality": "Elsewhere"},
        "contactPoint": {"name": "Ann", "email": "new@alpha.example", "telephone": "1"},
    }


def test_contacts_that_may_not_be_seen_are_left_as_published(office):
    before = office.export(MAIN)["parties"]
    for party in office.parties.values():
        party["contacts"] = "a reference into the vault"
    assert office.export(MAIN)["parties"] == before


class TestTasks:
    def milestone(self, office: Office) -> Any:
        (milestone,) = office.export(MAIN)["contracts"][0]["milestones"]
        return milestone

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            ("in_progress", "partiallyMet"),
            ("blocked", "partiallyMet"),
            ("completed", "met"),
            ("cancelled", "scheduled"),
            ("pending", "scheduled"),
        ],
    )
    def test_statuses(self, office, status, said):
        next(iter(office.tasks.values()))["status"] = status
        assert self.milestone(office)["status"] == said

    def test_fields(self, office):
        next(iter(office.tasks.values())).update(title="Handed", due_date="2021-01-01", description="All of it")
        assert self.milestone(office) == {
            "id": "m",
            "title": "Handed",
            "description": "All of it",
            "dueDate": "2021-01-01T00:00:00Z",
            "status": "scheduled",
        }

    def test_an_unchanged_date_keeps_its_hour_and_a_removed_one_goes(self, office):
        assert self.milestone(office)["dueDate"] == "2020-12-01T12:00:00Z"
        next(iter(office.tasks.values()))["due_date"] = None
        assert "dueDate" not in self.milestone(office)

    def test_a_deleted_task_leaves_its_milestone_as_published(self, office):
        next(iter(office.tasks.values())).update(deleted_at="2020-02-01T00:00:00Z", title="x")
        assert self.milestone(office)["title"] == "Hand over"

    @pytest.mark.parametrize(("content", "stage"), [([TENDER], "tender"), ([TENDER, AWARD, CONTRACT], "contract")])
    def test_a_task_made_here_goes_to_the_present_stage(self, content, stage):
        office = Office()
        office.take_in(doc(*content))
        own = {
            "id": str(uuid4()),
            "title": "Made here",
            "status": "in_progress",
            "due_date": "2020-05-05",
            "package_id": office.package["id"],
        }
        office.tasks["own"] = own
        office.tasks["gone"] = {**own, "id": str(uuid4()), "status": "cancelled"}
        exported = office.export(MAIN)
        holder = exported["tender"] if stage == "tender" else exported["contracts"][0]
        assert holder["milestones"] == [
            {"id": own["id"], "title": "Made here", "dueDate": "2020-05-05T00:00:00Z", "status": "partiallyMet"}
        ]

    def test_a_task_of_another_package_is_not_written(self, office):
        office.tasks["other"] = {"id": "1", "title": "Other", "status": "pending", "package_id": "elsewhere"}
        assert "Other" not in dumps(office.export(MAIN))


class TestAwardPackages:
    def test_the_parts_are_put_together_again(self):
        office = Office()
        office.take_in(doc(TENDER, TestAwards.TWO))
        exported = office.export(MAIN)
        assert [one["id"] for one in exported["awards"]] == ["a1", "a2"]
        office.packages[TestAwards.SECOND].update(amount="33", title="Lot two")
        changed = office.export(MAIN)
        assert (changed["awards"][1]["value"]["amount"], changed["awards"][1]["title"]) == (33, "Lot two")
        assert changed["awards"][0] == exported["awards"][0]

    def test_the_amount_of_several_contracts_is_not_written_into_one(self):
        award = {"id": "a1", "status": "active", "suppliers": [{"id": "XX-REG-2"}]}
        contracts = [
            {"id": one, "awardID": "a1", "status": "active", "value": {"amount": 5, "currency": "EUR"}} for one in "xy"
        ]
        office = Office()
        office.take_in(doc(TENDER, release(2, "contract", parties=[ALPHA], awards=[award], contracts=contracts)))
        office.package["planned_end"] = "2030-01-01"
        exported = office.export(MAIN)
        assert [one.get("period") for one in exported["contracts"]] == [None, None]


class TestMadeHere:
    def package(self, **fields: Any) -> Any:
        return {
            "id": str(uuid4()),
            "version": 3,
            "code": "P-007",
            "title": "Own",
            "description": "Made here",
            "status": "draft",
            "amount": "10.50",
            "currency": "EUR",
            "planned_start": "2020-02-01",
            "planned_end": "2020-03-01",
            "vendor_id": None,
            "external_ref": None,
            "data": {"lots": 2},
            **fields,
        }

    @pytest.mark.parametrize(
        ("status", "read_back"),
        [
            ("draft", "draft"),
            ("submitted", "draft"),
            ("in_review", "draft"),
            ("approved", "approved"),
            ("awarded", "awarded"),
            ("active", "active"),
            ("on_hold", "active"),
            ("completed", "completed"),
            ("cancelled", "cancelled"),
        ],
    )
    def test_it_is_read_back_with_the_same_fields(self, status, read_back):
        vendor = {
            "id": str(uuid4()),
            "name": "Vendor",
            "kind": "vendor",
            "email": "v@v.example",
            "external_ref": None,
            "data": {},
        }
        package = self.package(status=status, vendor_id=vendor["id"])
        task = {
            "id": str(uuid4()),
            "title": "Do",
            "description": "It",
            "status": "completed",
            "due_date": "2020-02-02",
            "package_id": package["id"],
        }
        document = write(package, [vendor], [task], PUBLICATION)
        office = Office()
        office.take_in(json.loads(dumps(document)))
        made = office.packages[package_key("ocds-pmis00-P-007")]
        expected = {
            name: package[name] for name in ("title", "description", "currency", "planned_start", "planned_end")
        }
        assert {name: made[name] for name in expected} == expected
        assert (Decimal(made["amount"]), made["status"]) == (Decimal("10.50"), read_back)
        (done,) = office.tasks.values()
        assert (done["title"], done["description"], done["status"], done["due_date"]) == (
            "Do",
            "It",
            "completed",
            "2020-02-02",
        )
        if read_back in ("awarded", "active", "completed"):
            (party,) = office.parties.values()
            assert (made["vendor_id"], party["name"]) == (party["id"], "Vendor")

    def test_a_package_without_anything(self):
        bare = self.package(amount=None, currency=None, planned_start=None, planned_end=None, description="")
        (found,) = releases(json.loads(dumps(write(bare, [], [], PUBLICATION))))
        assert found.release["tender"] == {"id": "P-007", "title": "Own", "status": "planned"}


class TestDocument:
    def test_the_head_is_what_the_schema_asks_for(self, office):
        document = write(office.package, office.parties.values(), [], PUBLICATION)
        assert list(document) == ["uri", "version", "publishedDate", "publisher", "releases"]
        assert (document["version"], document["publishedDate"]) == ("1.1", PUBLICATION.date)
        (written,) = document["releases"]
        assert list(written)[:5] == ["ocid", "id", "date", "tag", "initiationType"]
        assert (written["ocid"], written["initiationType"], written["date"]) == ("ocds-x-1", "tender", PUBLICATION.date)

    def test_licence_and_extensions_of_the_source_are_kept_but_not_its_publisher(self):
        office = Office()
        for path in SIX:
            office.take_in_file(path)
        document = write(office.package, [], [], Publication("2020-01-01T00:00:00Z", "We", uri="https://example.com/x"))
        assert document["license"] == "http://opendatacommons.org/licenses/pddl/1.0/"
        assert (document["publisher"], document["uri"]) == ({"name": "We"}, "https://example.com/x")

    def test_the_same_content_has_the_same_id_and_another_content_another(self, office):
        ids = [office.export(MAIN)["id"] for _ in range(2)]
        office.package["title"] = "Other"
        assert ids[0] == ids[1] != office.export(MAIN)["id"]

    def test_what_was_written_can_be_taken_in_again_without_a_change(self, office):
        document = json.loads(dumps(write(office.package, office.parties.values(), office.tasks.values(), PUBLICATION)))
        planned = office.plan(releases(document))
        assert (planned.errors, planned.steps()) == ((), [])

    def test_the_text_is_json_with_exact_numbers(self):
        value = {"a": [Decimal("1.10"), 10**20, {}, [], None, True, 'é\n"\u2028'], "b": {"c": Decimal("1E+3")}}
        text = dumps(value)
        assert '"a": [\n    1.10,\n    100000000000000000000,' in text
        assert json.loads(text, parse_float=Decimal) == value
        assert text.endswith("}\n")

    def test_a_draft_is_tagged_by_what_it_holds(self):
        office = Office()
        office.take_in(doc(release(1, "planning", language="en")))
        (found,) = read(dumps(write(office.package, [], [], PUBLICATION)).encode(), "x")
        assert found.release["tag"] == ["planning"]


def test_parties_of_other_processes_are_not_written(office):
    office.take_in(
        doc(release(1, "planning", ocid="ocds-x-2", parties=[BETA | {"id": "XX-REG-77", "name": "Elsewhere"}]))
    )
    assert "Elsewhere" not in dumps(office.export(MAIN))
