"""Releases become intents; only news is proposed; what people did here is respected."""

from __future__ import annotations

from copy import deepcopy
from time import process_time
from typing import Any

import pytest

from pmis.approval.governed import merged
from pmis.ocds.keys import KEY_LENGTH, award_key, package_key, party_key, process_prefix, task_key
from pmis.ocds.mapping import Known, PartyKey, diff, merge_patch, plan, wanted
from tests.ocds.office import Office, package_of, releases

OCID = "ocds-x-1"
MAIN = package_key(OCID)
BUYER = {
    "id": "XX-REG-1",
    "name": "City",
    "roles": ["buyer"],
    "contactPoint": {"name": "Desk", "email": "desk@city.example"},
}
ALPHA = {"id": "XX-REG-2", "name": "Alpha", "roles": ["supplier"], "contactPoint": {"email": "a@alpha.example"}}
BETA = {"id": "XX-REG-3", "name": "Beta", "roles": ["tenderer"]}
CITY, VENDOR = "ocds-org:XX-REG-1", "ocds-org:XX-REG-2"


def release(number: int, *tags: str, ocid: str = OCID, **content: Any) -> Any:
    """A release of the given day of January."""
    return {
        "ocid": ocid,
        "id": f"r{number}",
        "date": f"2020-01-{number:02d}T00:00:00Z",
        "tag": list(tags),
        "initiationType": "tender",
        **content,
    }


def eur(amount: Any) -> Any:
    return {"amount": amount, "currency": "EUR"}


PERIOD = {"startDate": "2020-01-05T00:00:00Z", "endDate": "2020-12-31T00:00:00Z"}
TENDER = release(
    1,
    "tender",
    parties=[BUYER],
    buyer={"id": "XX-REG-1"},
    tender={"id": "t", "title": "Works", "status": "active", "value": eur(100), "contractPeriod": PERIOD},
)
AWARD = release(
    2,
    "award",
    parties=[BUYER, ALPHA, BETA],
    awards=[{"id": "a1", "status": "active", "value": eur(90), "suppliers": [{"id": "XX-REG-2"}]}],
)
CONTRACT = release(
    3, "contract", contracts=[{"id": "c1", "awardID": "a1", "status": "active", "period": PERIOD, "value": eur(91)}]
)


def doc(*many: Any) -> Any:
    return package_of(*many)


def codes(problems: Any) -> list[str]:
    return [problem.code for problem in problems]


class TestStages:
    @pytest.mark.parametrize(
        ("content", "status", "amount"),
        [
            ([release(1, "planning", planning={"budget": {"amount": eur(7), "project": "P"}})], "draft", "7"),
            ([TENDER], "approved", "100"),
            ([TENDER, AWARD], "awarded", "90"),
            ([TENDER, AWARD, CONTRACT], "active", "91"),
            ([TENDER, release(2, "tenderCancellation", tender={"id": "t", "status": "cancelled"})], "cancelled", "100"),
            (
                [TENDER, AWARD, release(3, "awardCancellation", awards=[{"id": "a1", "status": "cancelled"}])],
                "cancelled",
                "100",
            ),
            (
                [
                    TENDER,
                    AWARD,
                    CONTRACT,
                    release(
                        4, "contractTermination", contracts=[{"id": "c1", "awardID": "a1", "status": "terminated"}]
                    ),
                ],
                "completed",
                "91",
            ),
        ],
        ids=["planning", "tender", "award", "contract", "tender cancelled", "award cancelled", "terminated"],
    )
    @pytest.mark.parametrize("together", [True, False])
    def test_where_a_process_ends_up(self, content, status, amount, together):
        office = Office()
        if together:
            office.take_in(doc(*content))
        else:
            for one in content:
                office.take_in(doc(one))
        assert (office.package["status"], office.package["amount"], office.package["currency"]) == (
            status,
            amount,
            "EUR",
        )

    def test_a_process_that_is_first_met_with_its_contract(self):
        office = Office()
        planned = office.take_in(doc(TENDER, AWARD, CONTRACT))
        assert [
            (step.operation, step.patch.get("status")) for step in planned.steps() if step.target_type == "package"
        ] == [
            ("create", None),
            ("transition", "submitted"),
            ("transition", "in_review"),
            ("transition", "approved"),
            ("transition", "awarded"),
            ("transition", "active"),
        ]
        (awarded,) = [step for step in planned.steps() if step.patch.get("status") == "awarded"]
        assert awarded.patch == {"status": "awarded", "vendor_id": VENDOR}

    @pytest.mark.parametrize(
        ("content", "status", "missing"),
        [
            (
                [release(1, "tender", tender={"id": "t", "title": "W", "status": "active"})],
                "in_review",
                "approved needs an amount with its currency",
            ),
            (
                [TENDER, release(2, "award", awards=[{"id": "a1", "status": "active"}])],
                "approved",
                "awarded needs a supplier",
            ),
            (
                [
                    release(1, "tender", tender={"id": "t", "status": "active", "value": eur(1)}),
                    AWARD,
                    release(3, "contract", contracts=[{"id": "c", "awardID": "a1", "status": "active"}]),
                ],
                "awarded",
                "active needs a start date",
            ),
            (
                [
                    TENDER,
                    AWARD,
                    release(
                        3,
                        "contract",
                        contracts=[
                            {
                                "id": "c",
                                "awardID": "a1",
                                "status": "terminated",
                                "milestones": [{"id": "m", "title": "M"}],
                            }
                        ],
                    ),
                ],
                "active",
                "completed needs every milestone met",
            ),
        ],
    )
    def test_it_stops_before_a_step_that_lacks_something(self, content, status, missing):
        office = Office()
        planned = office.take_in(doc(*content))
        assert office.package["status"] == status
        assert [str(notice).partition(": ")[2] for notice in planned.notices] == [f"it stays {status}: {missing}"]

    def test_it_goes_on_when_the_missing_thing_arrives(self):
        office = Office()
        office.take_in(doc(release(1, "tender", tender={"id": "t", "title": "W", "status": "active"})))
        planned = office.take_in(doc(release(2, "tenderUpdate", tender={"id": "t", "value": eur(5)})))
        assert office.package["status"] == "approved"
        assert planned.notices == ()

    def test_tasks_are_closed_before_their_package(self):
        office = Office()
        milestone = {"id": "m", "title": "Hand over", "dueDate": "2020-12-01"}
        office.take_in(
            doc(
                TENDER,
                AWARD,
                CONTRACT,
                release(4, "contractUpdate", contracts=[{"id": "c1", "awardID": "a1", "milestones": [milestone]}]),
            )
        )
        last = {"id": "c1", "awardID": "a1", "status": "terminated", "milestones": [{"id": "m", "status": "met"}]}
        planned = office.take_in(doc(release(5, "contractTermination", contracts=[last])))
        assert [(step.target_type, step.patch.get("status")) for step in planned.steps()] == [
            ("package", None),
            ("task", None),
            ("task", "in_progress"),
            ("task", "completed"),
            ("package", "completed"),
        ]

    def test_actual_dates_are_what_the_releases_imply(self):
        office = Office()
        work = {"id": "c1", "awardID": "a1", "implementation": {"transactions": [{"id": "1", "value": eur(1)}]}}
        office.take_in(doc(TENDER, AWARD, CONTRACT, release(6, "implementation", contracts=[work])))
        assert (office.package["actual_start"], office.package.get("actual_end")) == ("2020-01-05", None)
        ended = {"id": "c1", "awardID": "a1", "status": "terminated"}
        office.take_in(doc(release(20, "contractTermination", contracts=[ended])))
        assert office.package["actual_end"] == "2020-01-20"

    def test_a_start_that_has_not_come_is_no_actual_start(self):
        office = Office()
        work = {"id": "c1", "awardID": "a1", "implementation": {"documents": [{"id": "1"}]}}
        office.take_in(doc(TENDER, AWARD, CONTRACT, release(4, "implementation", contracts=[work])))
        assert "actual_start" not in office.package

    def test_a_value_without_its_currency_makes_no_amount(self):
        office = Office()
        planned = office.take_in(doc(release(1, "planning", tender={"id": "t", "title": "W", "value": {"amount": 5}})))
        assert codes(planned.notices) == ["currency_missing"]
        assert "amount" not in office.package
        assert office.package["data"]["ocds"]["release"]["tender"]["value"] == {"amount": 5}

    @pytest.mark.parametrize(
        ("content", "title"),
        [
            ({"title": "Process", "tender": {"title": "Tender"}}, "Process"),
            ({"tender": {"title": "  Two\n lines "}}, "Two lines"),
            ({"planning": {"budget": {"project": "Project"}}}, "Project"),
            ({"awards": [{"id": "1", "title": "Award"}]}, "Award"),
            ({"contracts": [{"id": "1", "awardID": "1", "title": "Contract"}]}, "Contract"),
            ({}, "Contracting process ocds-x-1"),
        ],
    )
    def test_titles(self, content, title):
        office = Office()
        office.take_in(doc(release(1, "planning", **content)))
        assert office.package["title"] == title


class TestNews:
    def test_an_edit_made_here_outlives_a_release_that_repeats_itself(self):
        office = Office()
        office.take_in(doc(TENDER))
        office.package.update(title="Ours", amount="123.00", planned_end="2021-06-30")
        again = deepcopy(TENDER) | {"id": "r2", "date": "2020-01-02T00:00:00Z", "tag": ["tenderUpdate"]}
        again["tender"]["description"] = "News"
        planned = office.take_in(doc(again))
        assert (office.package["title"], office.package["amount"]) == ("Ours", "123.00")
        assert office.package["description"] == "News"
        assert [sorted(step.patch) for step in planned.steps()] == [["data", "description"]]

    def test_news_about_a_field_that_was_edited_here_is_proposed(self):
        office = Office()
        office.take_in(doc(TENDER))
        office.package["title"] = "Ours"
        office.take_in(doc(release(2, "tenderUpdate", tender={"id": "t", "title": "Theirs, anew"})))
        assert office.package["title"] == "Theirs, anew"

    def test_a_release_that_says_nothing_new_changes_nothing_at_all(self):
        office = Office()
        office.take_in(doc(TENDER))
        again = {**TENDER, "id": "r9", "date": "2020-01-09T00:00:00Z"}
        planned = office.plan(releases(doc(again)))
        assert (planned.steps(), planned.repeated) == ([], 0)

    def test_a_release_without_news_is_known_again_even_after_a_later_one(self):
        office = Office()
        quiet = {**TENDER, "id": "quiet", "date": "2020-01-02T00:00:00Z"}
        office.take_in(doc(TENDER))
        assert office.take_in(doc(quiet)).idle == (releases(doc(quiet))[0].fingerprint,)
        office.take_in(doc(release(3, "tenderUpdate", tender={"id": "t", "title": "New"})))
        planned = office.take_in(doc(quiet))
        assert (planned.repeated, planned.steps()) == (1, [])

    def test_a_tag_that_says_what_no_status_does_is_remembered(self):
        office = Office()
        office.take_in(doc(release(1, "tender", tender={"id": "t", "title": "W", "value": eur(1)})))
        cancelled = doc(release(2, "tenderCancellation"))
        planned = office.take_in(cancelled)
        assert (office.package["status"], planned.idle) == ("cancelled", ())
        assert office.take_in(cancelled).steps() == []

    def test_what_the_publisher_takes_back_goes(self):
        office = Office()
        office.take_in(doc(TENDER))
        office.take_in(
            doc(release(2, "tenderUpdate", tender={"id": "t", "value": None, "contractPeriod": {"endDate": None}}))
        )
        assert (office.package["amount"], office.package["currency"], office.package["planned_end"]) == (
            None,
            None,
            None,
        )
        assert office.package["planned_start"] == "2020-01-05"

    def test_amount_and_currency_stay_together(self):
        office = Office()
        office.take_in(doc(TENDER))
        office.package.update(amount=None, currency=None)
        planned = office.take_in(doc(release(2, "tenderUpdate", tender={"id": "t", "value": {"amount": 200}})))
        assert (office.package["amount"], office.package["currency"]) == ("200", "EUR")
        assert "currency" in planned.steps()[0].patch

    def test_other_data_of_the_package_is_left_alone(self):
        office = Office()
        office.take_in(doc(TENDER))
        office.package["data"]["lots"] = 3
        office.take_in(doc(AWARD))
        assert office.package["data"]["lots"] == 3

    def test_a_status_chosen_here_is_left_until_the_publisher_goes_on(self):
        office = Office()
        office.take_in(doc(TENDER, AWARD, CONTRACT))
        office.package["status"] = "on_hold"
        planned = office.take_in(
            doc(release(4, "contractUpdate", contracts=[{"id": "c1", "awardID": "a1", "title": "New"}]))
        )
        assert office.package["status"] == "on_hold"
        assert planned.notices == ()
        office.take_in(
            doc(release(5, "contractTermination", contracts=[{"id": "c1", "awardID": "a1", "status": "terminated"}]))
        )
        assert office.package["status"] == "completed"

    def test_a_step_back_is_not_taken_but_told(self):
        office = Office()
        office.take_in(doc(TENDER, AWARD, CONTRACT))
        planned = office.take_in(
            doc(release(4, "contractUpdate", contracts=[{"id": "c1", "awardID": "a1", "status": "pending"}]))
        )
        assert office.package["status"] == "active"
        assert [notice.message for notice in planned.notices] == ["OCDS says awarded; it is active here and stays so"]

    def test_a_frozen_package_is_not_touched(self):
        office = Office()
        office.take_in(doc(TENDER, release(2, "tenderCancellation", tender={"id": "t", "status": "cancelled"})))
        planned = office.plan(releases(doc(AWARD | {"date": "2020-01-05T00:00:00Z"})))
        assert [str(error) for error in planned.errors] == [
            "file.json /releases/0: P-001 is cancelled and frozen; reopen it before importing more about it"
        ]
        assert [step.target_type for step in planned.steps()] == ["party", "party"]

    def test_a_deleted_package_is_not_made_again(self):
        office = Office()
        office.take_in(doc(TENDER))
        office.package["deleted_at"] = "2020-02-01T00:00:00Z"
        planned = office.plan(releases(doc(AWARD)))
        assert codes(planned.errors) == ["record_deleted"]

    def test_a_package_that_carries_the_reference_by_hand_has_its_gaps_filled(self):
        office = Office()
        office.packages[MAIN] = {
            "id": "1",
            "version": 1,
            "code": "P-001",
            "status": "draft",
            "title": "Ours",
            "description": "",
            "data": {"lots": 1},
            "external_ref": MAIN,
        }
        planned = office.take_in(doc(TENDER))
        assert (office.package["title"], office.package["amount"], office.package["status"]) == (
            "Ours",
            "100",
            "approved",
        )
        assert office.package["data"]["lots"] == 1
        assert [notice.message for notice in planned.notices] == ["title is another here and is left as it is"]

    @pytest.mark.parametrize("change", [{"language": "fr"}, {"tender": {"id": "t", "title": "Other"}}])
    def test_a_release_that_was_changed_after_its_import_is_refused(self, change):
        office = Office()
        office.take_in(doc(TENDER))
        planned = office.plan(releases(doc(TENDER | change)))
        assert codes(planned.errors) == ["release_changed"]
        assert "needs a new id or date" in planned.errors[0].message

    def test_the_same_release_twice_in_one_file_counts_once(self):
        office = Office()
        planned = office.take_in(doc(TENDER, TENDER))
        assert (planned.releases, planned.repeated) == (2, 1)

    def test_an_older_release_in_another_zone_is_older(self):
        office = Office()
        office.take_in(doc(TENDER))
        late = release(1, "tenderUpdate") | {"id": "late", "date": "2020-01-01T01:00:00+02:00"}
        assert codes(office.plan(releases(doc(late))).errors) == ["out_of_order"]


class TestErrors:
    def test_an_item_that_is_wrong_keeps_the_plan_from_nothing_but_being_applied(self):
        broken = deepcopy(TENDER)
        broken["tender"]["value"]["currency"] = "EURO"
        broken["parties"][0]["name"] = "n" * 151
        planned = Office().plan(releases(doc(broken, release(2, "award", ocid="ocds-x-2"))))
        assert [(error.pointer, error.code) for error in planned.errors] == [
            ("/releases/0/parties/0/name", "too_long"),
            ("/releases/0/tender/value/currency", "invalid_currency"),
        ]
        assert {intent.key for intent in planned.intents} >= {MAIN, package_key("ocds-x-2"), CITY}

    def test_a_period_that_is_reversed_by_two_releases(self):
        office = Office()
        office.take_in(doc(TENDER))
        planned = office.plan(
            releases(doc(release(2, "tenderUpdate", tender={"id": "t", "contractPeriod": {"endDate": "2020-01-02"}})))
        )
        assert codes(planned.errors) == ["period_reversed"]

    @pytest.mark.parametrize(
        "content", [{"date": "soon"}, {"tender": {"title": "\ud800"}}, {"ocid": ["x"]}, {"x\ud800": 1}]
    )
    def test_a_release_that_cannot_be_read_is_left_out_of_the_preview(self, content):
        planned = Office().plan(releases(doc(TENDER | content, release(2, "award", ocid="ocds-x-2"))))
        assert planned.errors
        assert MAIN not in {intent.key for intent in planned.intents}
        assert package_key("ocds-x-2") in {intent.key for intent in planned.intents}


class TestParties:
    def test_who_buys_and_sells_is_both_and_stays_so(self):
        office = Office()
        office.take_in(doc(release(1, "tender", parties=[BUYER | {"roles": ["buyer"]}])))
        assert office.parties[CITY]["kind"] == "customer"
        office.take_in(doc(release(1, "tender", ocid="ocds-x-2", parties=[BUYER | {"roles": ["tenderer"]}])))
        assert office.parties[CITY]["kind"] == "both"
        office.take_in(doc(release(2, "tender", parties=[BUYER | {"roles": ["payer"]}])))
        assert office.parties[CITY]["kind"] == "both"

    @pytest.mark.parametrize(
        ("roles", "kind"),
        [
            (["buyer"], "customer"),
            (["procuringEntity", "payer"], "customer"),
            (["funder"], "customer"),
            (["supplier"], "vendor"),
            (["tenderer", "payee"], "vendor"),
            (["enquirer"], "vendor"),
            (["buyer", "supplier"], "both"),
            ([], "vendor"),
            (["subcontractor"], "vendor"),
            (None, "vendor"),
            (["reviewBody"], "customer"),
        ],
    )
    def test_kinds(self, roles, kind):
        office = Office()
        office.take_in(doc(release(1, "tender", parties=[{"id": "A", "name": "A", "roles": roles}])))
        assert [party["kind"] for party in office.parties.values()] == [kind]

    def test_an_address_of_two_belongs_to_neither(self):
        twins = [
            {"id": one, "name": one, "contactPoint": {"email": email}}
            for one, email in (("A", "Info@x.example"), ("B", "info@x.example"))
        ]
        office = Office()
        planned = office.take_in(doc(release(1, "planning", parties=twins)))
        assert [party.get("email") for party in office.parties.values()] == [None, None]
        assert [party["contacts"][0]["email"].lower() for party in office.parties.values()] == ["info@x.example"] * 2
        assert codes(planned.notices) == ["email_shared", "email_shared"]
        assert planned.notices[0].pointer == "/releases/0/parties/0/contactPoint/email"

    def test_an_address_that_somebody_else_has_is_not_taken(self):
        office = Office()
        office.parties["by hand"] = {
            "id": "1",
            "version": 1,
            "name": "Someone",
            "kind": "customer",
            "email": "DESK@city.example",
        }
        planned = office.take_in(doc(TENDER))
        assert "email" not in office.parties[CITY]
        assert codes(planned.notices) == ["email_shared"]

    @pytest.mark.parametrize("address", ["N/A", "a@b", "x@y.example; z@y.example", "", " "])
    def test_what_is_no_address_makes_none(self, address):
        office = Office()
        office.take_in(doc(release(1, "tender", parties=[BUYER | {"contactPoint": {"email": address}}])))
        assert "email" not in office.parties[CITY]
        assert "contacts" not in office.parties[CITY]

    def test_a_contact_that_is_not_what_it_claims_stays_in_the_data(self):
        contact = {"name": "n" * 151, "telephone": "1" * 201, "url": "javascript:alert(1)", "email": "a@b.example"}
        office = Office()
        office.take_in(doc(release(1, "tender", parties=[BUYER | {"contactPoint": contact}])))
        assert office.parties[CITY]["contacts"] == [{"name": "City", "email": "a@b.example"}]
        assert office.parties[CITY]["data"]["ocds"]["contactPoint"] == contact

    def test_a_party_is_the_same_in_every_process_when_it_is_registered(self):
        local = {"id": "org-1", "name": "Local"}
        office = Office()
        for number in (1, 2):
            office.take_in(doc(release(1, "tender", ocid=f"ocds-x-{number}", parties=[ALPHA, local])))
        assert list(office.parties) == [VENDOR, "ocds:ocds-x-1/parties/org-1", "ocds:ocds-x-2/parties/org-1"]

    def test_departments_with_one_registration_are_two_parties(self):
        registered = {"scheme": "XX-REG", "id": "9"}
        two = [{"id": one, "name": one, "identifier": registered} for one in ("north", "south")]
        office = Office()
        office.take_in(doc(release(1, "tender", parties=two[:1])))
        office.take_in(doc(release(2, "tender", parties=two)))
        assert list(office.parties) == ["ocds-org:XX-REG-9", "ocds:ocds-x-1/parties/south"]
        office.take_in(doc(release(3, "tender", parties=[two[1] | {"name": "South Side"}])))
        assert [party["name"] for party in office.parties.values()] == ["north", "South Side"]

    def test_another_process_that_meets_a_known_party_only_fills_gaps(self):
        office = Office()
        office.take_in(doc(release(1, "tender", parties=[BUYER])))
        other = BUYER | {"name": "CITY", "address": {"locality": "X"}}
        planned = office.take_in(doc(release(1, "planning", ocid="ocds-x-2", parties=[other])))
        assert office.parties[CITY]["name"] == "City"
        assert office.parties[CITY]["data"]["address"] == {"locality": "X"}
        assert [notice.message for notice in planned.notices] == ["name is another here and is left as it is"]
        office.take_in(doc(release(2, "tender", ocid="ocds-x-2", parties=[BUYER | {"name": "New City"}])))
        assert office.parties[CITY]["name"] == "New City"

    def test_two_processes_in_one_file_make_one_party(self):
        office = Office()
        planned = office.take_in(
            doc(
                release(1, "tender", parties=[BUYER]),
                release(1, "award", ocid="ocds-x-2", parties=[BUYER | {"roles": ["supplier"]}]),
            )
        )
        assert [step.operation for step in planned.steps() if step.target_type == "party"] == ["create"]
        assert office.parties[CITY]["kind"] == "both"
        assert office.parties[CITY]["email"] == "desk@city.example"

    def test_one_only_referred_to_is_a_party_too(self):
        office = Office()
        office.take_in(
            doc(
                TENDER,
                release(
                    2,
                    "award",
                    awards=[
                        {"id": "a", "status": "active", "value": eur(1), "suppliers": [{"id": "Z", "name": "Zeta"}]}
                    ],
                ),
            )
        )
        zeta = office.parties["ocds:ocds-x-1/parties/Z"]
        assert (zeta["name"], zeta["kind"], zeta["id"]) == ("Zeta", "vendor", office.package["vendor_id"])

    def test_a_party_without_a_name_is_called_by_what_there_is(self):
        parties = [{"id": "A", "identifier": {"legalName": "Legal"}}, {"id": "B"}, {"id": "i" * 180}]
        office = Office()
        office.take_in(doc(release(1, "tender", parties=parties)))
        assert [party["name"] for party in office.parties.values()] == ["Legal", "B", "Unnamed organisation"]


class TestAwards:
    TWO = release(
        2,
        "award",
        parties=[BUYER, ALPHA, BETA],
        awards=[
            {
                "id": "a1",
                "title": "Lot 1",
                "status": "active",
                "value": eur(60),
                "suppliers": [{"id": "XX-REG-2"}],
                "contractPeriod": PERIOD,
            },
            {
                "id": "a2",
                "title": "Lot 2",
                "status": "active",
                "value": eur(30),
                "suppliers": [{"id": "XX-REG-3"}],
                "contractPeriod": PERIOD,
            },
        ],
    )
    SECOND = award_key(OCID, "a2")

    def test_each_award_beyond_the_first_has_a_package_of_its_own(self):
        office = Office()
        planned = office.take_in(doc(TENDER, self.TWO))
        first, second = office.packages[MAIN], office.packages[self.SECOND]
        assert (first["title"], first["amount"], first["status"]) == ("Works", "60", "awarded")
        assert (second["title"], second["amount"], second["status"]) == ("Lot 2", "30", "awarded")
        assert second["vendor_id"] == office.parties["ocds-org:XX-REG-3"]["id"]
        (made,) = [step for step in planned.steps() if step.key == self.SECOND and step.operation == "create"]
        assert made.place.pointer == "/releases/1/awards/1"

    def test_contracts_and_milestones_go_with_their_award(self):
        office = Office()
        office.take_in(doc(TENDER, self.TWO))
        contract = {
            "id": "c2",
            "awardID": "a2",
            "status": "active",
            "value": eur(31),
            "period": PERIOD,
            "milestones": [{"id": "m", "title": "M"}],
        }
        before = deepcopy(office.packages[MAIN])
        planned = office.take_in(doc(release(3, "contract", contracts=[contract])))
        assert (office.packages[self.SECOND]["status"], office.packages[self.SECOND]["amount"]) == ("active", "31")
        (task,) = office.tasks.values()
        assert task["package_id"] == office.packages[self.SECOND]["id"]
        assert office.packages[MAIN] == before
        assert {step.key for step in planned.steps() if step.target_type == "package"} == {self.SECOND}

    def test_one_part_goes_on_while_the_other_is_frozen(self):
        office = Office()
        office.take_in(doc(TENDER, self.TWO))
        office.packages[MAIN]["status"] = "completed"
        office.take_in(doc(release(3, "contract", contracts=[{"id": "c2", "awardID": "a2", "status": "active"}])))
        assert office.packages[self.SECOND]["status"] == "active"

    def test_an_award_that_failed_makes_way_for_the_next(self):
        failed = {"id": "a1", "status": "unsuccessful", "value": eur(999), "suppliers": [{"id": "XX-REG-3"}]}
        good = {"id": "a2", "status": "active", "value": eur(50), "suppliers": [{"id": "XX-REG-2"}]}
        office = Office()
        office.take_in(doc(TENDER, release(2, "award", parties=[ALPHA, BETA], awards=[failed, good])))
        assert (office.package["amount"], office.package["status"]) == ("50", "awarded")
        assert office.package["vendor_id"] == office.parties[VENDOR]["id"]

    def test_an_award_after_the_first_was_withdrawn_is_a_new_vendor_for_the_same_package(self):
        office = Office()
        office.take_in(doc(TENDER, AWARD))
        again = [
            {"id": "a1", "status": "cancelled"},
            {"id": "a2", "status": "active", "value": eur(95), "suppliers": [{"id": "XX-REG-3"}]},
        ]
        planned = office.take_in(doc(release(3, "award", parties=[BETA], awards=again)))
        assert (office.package["status"], office.package["amount"]) == ("awarded", "95")
        assert office.package["vendor_id"] == office.parties["ocds-org:XX-REG-3"]["id"]
        (patch,) = [step for step in planned.steps() if step.target_type == "package"]
        assert isinstance(patch.patch["vendor_id"], PartyKey)

    def test_an_award_keeps_the_package_it_once_got(self):
        office = Office()
        office.take_in(doc(TENDER, self.TWO))
        office.take_in(doc(release(3, "awardCancellation", awards=[{"id": "a1", "status": "cancelled"}])))
        assert office.packages[MAIN]["status"] == "cancelled"
        office.take_in(doc(release(4, "awardCancellation", awards=[{"id": "a2", "status": "cancelled"}])))
        assert office.packages[self.SECOND]["status"] == "cancelled"
        assert len(office.packages) == 2

    def test_a_failed_award_beyond_the_first_makes_no_package(self):
        office = Office()
        office.take_in(doc(TENDER, AWARD, release(3, "award", awards=[{"id": "a3", "status": "unsuccessful"}])))
        assert list(office.packages) == [MAIN]
        assert [one["id"] for one in office.package["data"]["ocds"]["release"]["awards"]] == ["a1", "a3"]

    @pytest.mark.parametrize(
        ("award_value", "values", "amount"),
        [
            (eur(60), [eur(10), eur(20)], "60"),
            (None, [eur(10), eur("x")], "100"),
            (None, [eur(10), {"amount": 5, "currency": "USD"}], "100"),
            (None, [eur(10), eur(20.5)], "30.5"),
            (None, [eur(10), None], "100"),
        ],
    )
    def test_several_contracts_are_summed_within_one_currency_only(self, award_value, values, amount):
        award = {
            "id": "a1",
            "status": "active",
            "suppliers": [{"id": "XX-REG-2"}],
            **({"value": award_value} if award_value else {}),
        }
        contracts = [
            {"id": number, "awardID": "a1", "status": "active", "value": value} for number, value in enumerate(values)
        ]
        planned = Office().plan(
            releases(doc(TENDER, release(2, "contract", parties=[ALPHA], awards=[award], contracts=contracts)))
        )
        (package,) = [intent for intent in planned.intents if intent.target_type == "package"]
        assert package.fields["amount"] == amount

    def test_dates_span_all_contracts_in_force(self):
        periods = [("2020-02-01", "2020-03-01"), ("2020-01-15", "2020-02-01"), ("2019-01-01", "2022-01-01")]
        contracts = [
            {
                "id": number,
                "awardID": "a1",
                "status": "cancelled" if number == 2 else "active",
                "period": {"startDate": start, "endDate": end},
            }
            for number, (start, end) in enumerate(periods)
        ]
        office = Office()
        office.take_in(doc(TENDER, AWARD, release(3, "contract", contracts=contracts)))
        assert (office.package["planned_start"], office.package["planned_end"]) == ("2020-01-15", "2020-03-01")

    def test_ids_may_be_numbers_on_one_side_and_texts_on_the_other(self):
        long = 12345678901234567890123
        award = {"id": long, "status": "active", "value": eur(1), "suppliers": [{"id": "XX-REG-2"}]}
        office = Office()
        office.take_in(doc(TENDER, release(2, "award", parties=[ALPHA], awards=[award])))
        office.take_in(
            doc(
                release(3, "contract", contracts=[{"id": 1, "awardID": str(long), "status": "active", "value": eur(2)}])
            )
        )
        assert (office.package["status"], office.package["amount"]) == ("active", "2")


class TestTasks:
    def tender(self, number: int, *milestones: Any) -> Any:
        return doc(release(number, "tender", tender={"id": "t", "title": "W", "milestones": list(milestones)}))

    def test_a_milestone_without_a_due_date_is_a_task_without_one(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "title": "M"}))
        (task,) = office.tasks.values()
        assert ("due_date" in task, task["status"]) == (False, "pending")

    def test_a_milestone_that_moves_on(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "title": "M", "dueDate": "2020-05-01", "status": "scheduled"}))
        office.take_in(self.tender(2, {"id": "m", "status": "partiallyMet", "dueDate": "2020-06-01"}))
        (task,) = office.tasks.values()
        assert (task["status"], task["due_date"]) == ("in_progress", "2020-06-01")
        office.take_in(self.tender(3, {"id": "m", "status": "met", "dateMet": "2020-05-20"}))
        assert (task["status"], task["data"]["ocds"]["milestone"]["dateMet"]) == ("completed", "2020-05-20")

    def test_a_task_that_has_ended_is_left_alone(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "title": "M", "status": "met"}))
        office.take_in(self.tender(2, {"id": "m", "title": "M, renamed"}))
        (task,) = office.tasks.values()
        assert task["title"] == "M"
        assert office.package["data"]["ocds"]["release"]["tender"]["milestones"][0]["title"] == "M, renamed"

    def test_a_task_that_was_removed_here_is_not_made_again(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "title": "M"}))
        office.tasks.clear()
        office.take_in(self.tender(2, {"id": "m", "title": "M2"}, {"id": "n", "title": "N"}))
        assert [task["title"] for task in office.tasks.values()] == ["N"]

    def test_a_task_that_was_deleted_here_stays_deleted(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "title": "M"}))
        next(iter(office.tasks.values()))["deleted_at"] = "2020-02-01T00:00:00Z"
        office.take_in(self.tender(2, {"id": "m", "title": "M2"}))
        assert [task["title"] for task in office.tasks.values()] == ["M"]

    def test_a_milestone_that_is_taken_back_cancels_its_task(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "title": "M"}, {"id": "n"}))
        assert len(office.tasks) == 1
        office.take_in(self.tender(2, {"id": "m", "title": None}))
        (task,) = office.tasks.values()
        assert task["status"] == "cancelled"

    def test_a_title_is_found_for_every_milestone(self):
        office = Office()
        office.take_in(self.tender(1, {"id": "m", "description": "D"}))
        assert [task["title"] for task in office.tasks.values()] == ["Milestone m"]

    def test_milestones_of_all_four_lists(self):
        milestone = {"id": "m", "title": "M"}
        contract = {
            "id": "c/1",
            "awardID": "a",
            "milestones": [milestone],
            "implementation": {"milestones": [milestone]},
        }
        office = Office()
        office.take_in(
            doc(
                release(
                    1,
                    "tender",
                    planning={"milestones": [milestone]},
                    tender={"id": "t", "milestones": [milestone]},
                    contracts=[contract],
                )
            )
        )
        assert list(office.tasks) == [
            f"{MAIN}/planning/milestones/m",
            f"{MAIN}/tender/milestones/m",
            f"{MAIN}/contracts/c%2F1/milestones/m",
            f"{MAIN}/contracts/c%2F1/implementation/milestones/m",
        ]


class TestWanted:
    def test_what_to_look_up_first_and_then(self):
        found = releases(doc(TENDER, release(1, "tender", ocid="ocds-x-2", parties=[ALPHA])))
        assert wanted(found).prefixes == {"ocds:ocds-x-1", "ocds:ocds-x-2"}
        asked = wanted(found, {})
        assert asked.parties == {CITY, VENDOR}
        assert asked.emails == {"desk@city.example", "a@alpha.example"}

    def test_links_given_before_are_asked_for(self):
        office = Office()
        local = {"id": "org", "name": "Local"}
        office.take_in(doc(release(1, "tender", parties=[local])))
        registered = local | {"identifier": {"scheme": "XX-REG", "id": "5"}}
        found = releases(doc(release(2, "tender", parties=[registered])))
        assert wanted(found, office.packages).parties == {"ocds:ocds-x-1/parties/org"}

    def test_every_name_of_a_process_begins_with_its_prefix(self):
        for ocid in (OCID, "ocds/ö #1", "x" * 200, "ö" * 200):
            names = [package_key(ocid), award_key(ocid, "y" * 200), task_key(ocid, ("tender", "milestones"), "ü" * 200)]
            names.append(party_key(ocid, {"id": "z" * 200}))
            assert all(name.startswith(process_prefix(ocid)) and len(name) <= KEY_LENGTH for name in names)
            assert len(set(names)) == len(names)

    def test_names_cannot_meet(self):
        assert award_key("x", "1") != package_key("x/awards/1")
        assert award_key("x", "a/b") != award_key("x/awards/a", "b")


class TestMergePatch:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ({}, {"a": {"b": [1, {"c": 2}]}}),
            ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "d": {"e": 4}}}),
            ({"a": {"b": 1}}, {"a": [1]}),
            ({"a": [1]}, {"a": {"b": 1}}),
            ({"a": {"$number": "1"}}, {"a": {"$object": {"$number": "1"}}}),
            ({"a": 1}, {"a": True}),
            ({"a": {"b": 1}}, {"a": {}}),
        ],
    )
    def test_it_turns_one_into_the_other(self, old, new):
        patch = merge_patch(old, new)
        assert merged(old, patch) == new
        assert type(merged(old, patch)["a"]) is type(new["a"])
        assert merge_patch(merged(old, patch), new) == {}

    def test_keys_of_others_stay(self):
        assert merged({"x": 1, "a": 1}, merge_patch({"x": 1, "a": 1}, {"a": 2})) == {"x": 1, "a": 2}


def test_a_difference_of_nothing_is_nothing():
    office = Office()
    office.take_in(doc(TENDER))
    again = {**TENDER, "id": "r9", "date": "2020-01-09T00:00:00Z"}
    planned = plan(releases(doc(again)), office.known)
    for intent in planned.intents:
        current = office.records[intent.target_type][intent.key]
        assert not diff(intent, current, office.parties)


def test_planning_needs_nothing_known():
    assert plan([], Known()).steps() == []


def test_a_process_of_many_awards_is_planned_in_the_time_of_its_size():
    """A framework agreement has hundreds of awards: four times as many take about four times as long, not sixteen."""

    def seconds(size: int) -> float:
        awards = [
            {"id": number, "status": "active", "value": eur(1), "suppliers": [{"id": "XX-REG-2"}]}
            for number in range(size)
        ]
        contracts = [
            {"id": number, "awardID": number, "status": "active", "milestones": [{"id": "m", "title": "M"}]}
            for number in range(size)
        ]
        found = releases(doc(release(1, "contract", parties=[ALPHA], awards=awards, contracts=contracts)))
        started = process_time()
        planned = plan(found, Known())
        assert len(planned.intents) == 2 * size + 1
        assert not planned.errors
        return process_time() - started

    seconds(50)
    assert min(seconds(800) for _ in range(2)) < 9 * max(min(seconds(200) for _ in range(2)), 0.02)
