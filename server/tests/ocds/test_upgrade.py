"""A 1.0 release takes the shape of 1.1 and loses nothing."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from pmis.ocds.upgrade import party_id, references, upgrade
from tests.ocds.office import DATA, SIX

OLD = [json.loads(path.read_text())["releases"][0] for path in sorted((DATA / "made_1_0").glob("*.json"))]


def test_a_1_1_release_stays_what_it_is():
    for path in SIX:
        release = json.loads(path.read_text())["releases"][0]
        assert upgrade(release) == release


def test_organisations_in_place_become_parties_with_roles():
    tender, award, contract = (upgrade(release) for release in OLD)
    (buyer,) = tender["parties"]
    assert buyer["id"] == "GB-LAC-E09000099"
    assert buyer["roles"] == ["buyer", "procuringEntity"]
    assert {key: value for key, value in buyer.items() if key not in ("id", "roles")} == OLD[0]["buyer"]
    reference = {"id": "GB-LAC-E09000099", "name": "Borough of Westmarsh"}
    assert tender["buyer"] == tender["tender"]["procuringEntity"] == reference
    assert [(party["id"], party["roles"]) for party in award["parties"]] == [
        ("GB-LAC-E09000099", ["buyer"]),
        ("GB-COH-33333333", ["tenderer", "supplier"]),
        (party_id({"name": "Marsh & Daughters"}), ["tenderer"]),
    ]
    assert award["awards"][0]["suppliers"] == [{"id": "GB-COH-33333333", "name": "Hillside Paving"}]
    assert [(party["id"], party["roles"]) for party in contract["parties"]] == [
        ("GB-LAC-E09000099", ["payer"]),
        ("GB-COH-33333333", ["payee"]),
    ]


def test_amendments_and_transactions_get_their_new_names():
    tender, award, contract = (upgrade(release) for release in OLD)
    assert tender["tender"]["amendments"] == [OLD[0]["tender"]["amendment"]]
    assert award["awards"][0]["amendments"] == [{"rationale": "Arithmetic corrected."}]
    assert "amendment" not in tender["tender"]
    (transaction,) = contract["contracts"][0]["implementation"]["transactions"]
    assert transaction["value"] == {"amount": 20000, "currency": "GBP"}
    assert transaction["payer"] == {"id": "GB-LAC-E09000099"}
    assert not {"amount", "providerOrganization", "receiverOrganization"} & transaction.keys()


def test_the_original_is_not_touched_and_a_second_time_changes_nothing():
    for release in OLD:
        before = deepcopy(release)
        once = upgrade(release)
        assert release == before
        assert upgrade(once) == once


def test_details_that_contradict_the_party_stay_where_they_are():
    release: Any = {
        "parties": [{"id": "A", "name": "Alpha", "address": {"locality": "Old"}}],
        "buyer": {"id": "A", "name": "Alpha", "address": {"locality": "New"}, "contactPoint": {"name": "Ann"}},
    }
    assert upgrade(release) == {
        "parties": [
            {
                "id": "A",
                "name": "Alpha",
                "address": {"locality": "Old"},
                "contactPoint": {"name": "Ann"},
                "roles": ["buyer"],
            }
        ],
        "buyer": {"id": "A", "name": "Alpha", "address": {"locality": "New"}},
    }


def test_a_namesake_among_the_parties_is_the_one_that_is_meant():
    release: Any = {"parties": [{"id": "A", "name": "Alpha"}], "buyer": {"name": "Alpha"}}
    assert upgrade(release) == {
        "parties": [{"id": "A", "name": "Alpha", "roles": ["buyer"]}],
        "buyer": {"id": "A", "name": "Alpha"},
    }


def test_parties_without_ids_get_them():
    release: Any = {
        "parties": [
            {"name": "Alpha", "identifier": {"scheme": "XX-ORG", "id": 7}},
            {"name": "Beta"},
            {"roles": ["buyer"]},
        ]
    }
    made = [party.get("id") for party in upgrade(release)["parties"]]
    assert made == ["XX-ORG-7", party_id({"name": " beta "}), None]


def test_an_amendment_that_is_listed_already_is_not_listed_twice():
    release: Any = {"tender": {"amendments": [{"rationale": "A"}], "amendment": {"rationale": "A"}}}
    assert upgrade(release) == {"tender": {"amendments": [{"rationale": "A"}]}}


def test_an_unknown_extension_in_an_organisation_stays_with_the_reference():
    release: Any = {"buyer": {"name": "Alpha", "x_rating": 5}}
    upgraded = upgrade(release)
    assert upgraded["buyer"]["x_rating"] == 5
    assert "x_rating" not in upgraded["parties"][0]


def test_wrong_types_do_not_stop_it():
    for value in (7, "x", None, [], {}, [7], {"id": []}):
        for key in ("buyer", "parties", "tender", "awards", "contracts"):
            upgrade({key: value})
        upgrade({"awards": [{"suppliers": value, "amendment": value, "amendments": value}]})
        upgrade({"contracts": [{"implementation": {"transactions": value}}]})
        upgrade(
            {"contracts": [{"implementation": {"transactions": [{"amount": value, "providerOrganization": value}]}}]}
        )


def test_every_mention_of_an_organisation_is_found():
    release = json.loads(SIX[5].read_text())["releases"][0]
    assert [(role, "/".join(map(str, where)), mention["id"]) for role, where, mention in references(release)] == [
        ("buyer", "buyer", "GB-LAC-E09000003"),
        ("supplier", "awards/0/suppliers/0", "GB-COH-11111111"),
        ("payer", "contracts/0/implementation/transactions/0/payer", "GB-LAC-E09000003"),
        ("payee", "contracts/0/implementation/transactions/0/payee", "GB-COH-11111111"),
        ("payer", "contracts/0/implementation/transactions/1/payer", "GB-LAC-E09000003"),
        ("payee", "contracts/0/implementation/transactions/1/payee", "GB-COH-11111111"),
    ]
