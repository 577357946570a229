"""Bank details, contacts and credentials: who sees them, and that no reference to them can be had opened."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from pmis.kit.db import Reach
from tests.api.expect import applied, ok, problem, waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.office import Office

pytestmark = pytest.mark.anyio
SEES_BANK: Final = ("admin", "executive", "auditor", "inspector")
SEES_NO_BANK: Final = ("viewer", "analyst", "operator")


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


class Vendor:
    """A party with secrets in it, and the references under which they are kept."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.bank = f"bank-{secrets.token_hex(6)}"
        self.contact = f"contact-{secrets.token_hex(6)}"
        self.id = ""
        self.refs: list[str] = []

    async def made(self) -> Vendor:
        said = {
            "name": "A vendor",
            "kind": "vendor",
            "bank_details": {"holder": "Holder", "account": self.bank},
            "contacts": [{"name": "Contact", "phone": self.contact}],
        }
        # New bank details take an executive, and somebody beside the proposer.
        approval = waits(await self.office.post("operator", "/parties", said))
        for who in ("admin", "executive"):
            answer = ok(await self.office.post(who, f"/approvals/{approval['id']}/approve", {}))
        self.id = answer["resource"]["id"]
        async with self.office.database.read(Reach.INSTANCE) as session:
            row = await session.one("select doc from state.party where id = %s", (self.id,))
        assert row is not None
        doc = json.loads(row[0])
        self.refs = [doc["bank_details"], doc["contacts"]]
        self.approval = approval["id"]
        return self

    @property
    def places(self) -> list[str]:
        """Where the party's fields are shown."""
        return [
            f"/parties/{self.id}",
            f"/parties/{self.id}?as_of=2100-01-01T00:00:00Z",
            "/parties?limit=1",
            "/vendors?limit=1",
            f"/parties/{self.id}/timeline",
            f"/approvals/{self.approval}",
            f"/approvals/{self.approval}/timeline",
            "/approvals?limit=1&sort=-created_at",
        ]


@pytest.fixture
async def vendor(office: Office) -> Vendor:
    return await Vendor(office).made()


async def test_bank_details_are_shown_to_those_who_decide_and_audit(office: Office, vendor: Vendor):
    for path in vendor.places:
        for who in SEES_BANK:
            answer = await office.get(who, path)
            assert vendor.bank in answer.text, f"{path} {who}"
        for who in SEES_NO_BANK:
            answer = await office.get(who, path)
            assert answer.status_code == 200
            assert vendor.bank not in answer.text, f"{path} {who}"
            assert "protected" in answer.text, f"{path} {who}"
    for who in ("admin", "executive", "auditor"):
        assert vendor.bank in (await office.get(who, f"/audit/party/{vendor.id}")).text


async def test_contacts_are_shown_to_every_member(office: Office, vendor: Vendor):
    for who in (*SEES_BANK, *SEES_NO_BANK):
        assert vendor.contact in (await office.get(who, f"/parties/{vendor.id}")).text


async def test_nobody_is_shown_a_reference(office: Office, vendor: Vendor):
    before = {"bank_details": {"holder": "Other"}, "contacts": []}
    for who in ("viewer", "analyst", "admin", "inspector"):
        for path in vendor.places:
            for ref in vendor.refs:
                assert ref not in (await office.get(who, path)).text, f"{path} {who}"
    for who in ("analyst", "admin"):
        preview = await office.patch(who, f"/parties/{vendor.id}?dry_run=true", before)
        ok(preview)
        assert not any(ref in preview.text for ref in vendor.refs)
        assert (vendor.bank in preview.text) == (who == "admin")


class TestStolenReference:
    """Somebody who got hold of a reference, from an export say, cannot have it opened by the server."""

    @pytest.mark.parametrize("which", [0, 1])
    async def test_no_field_takes_one(self, office: Office, vendor: Vendor, which):
        ref = vendor.refs[which]
        tries: list[tuple[str, str, Any]] = [
            ("POST", "/packages", {"title": ref}),
            ("POST", "/packages", {"title": f" {ref} "}),
            ("POST", "/packages", {"title": "x", "description": ref}),
            ("POST", "/packages", {"title": "x", "external_ref": ref}),
            ("POST", "/packages", {"title": "x", "data": {"contacts": ref}}),
            ("POST", "/packages", {"title": "x", "data": {"bank_details": ref}}),
            ("POST", "/packages", {"title": "x", "data": {"a": [{"contacts": [ref]}]}}),
            ("POST", "/packages", {"title": "x", "data": {ref: 1}}),
            ("POST", "/packages", {"title": "x", "reason": ref}),
            ("POST", "/parties", {"name": ref, "kind": "vendor"}),
            ("POST", "/parties", {"name": "x", "kind": "vendor", "contacts": ref}),
            ("POST", "/parties", {"name": "x", "kind": "vendor", "bank_details": ref}),
            ("POST", "/parties", {"name": "x", "kind": "vendor", "data": {"contacts": ref}}),
            ("POST", "/parties", {"name": "x", "kind": "vendor", "contacts": [{"name": ref}]}),
            ("POST", "/parties", {"name": "x", "kind": "vendor", "credential": ref}),
            ("POST", "/comments", {"entity_type": "party", "entity_id": vendor.id, "body": ref}),
            ("POST", "/package-types", {"name": ref, "fields_schema": {}}),
            ("POST", "/package-types", {"name": "x", "fields_schema": {"default": {"contacts": ref}}}),
            ("POST", f"/approvals/{vendor.approval}/reject", {"reason": ref}),
        ]
        before = await office.count()
        for method, path, body in tries:
            answer = await office.call("admin", method, path, body)
            problem(answer, 422, "invalid_input")
            assert vendor.bank not in answer.text
            assert vendor.contact not in answer.text
        assert await office.count() == before

    async def test_one_in_the_correlation_id_stays_closed(self, office: Office, vendor: Vendor):
        for ref in vendor.refs:
            headers = {"X-Correlation-Id": ref}
            package = applied(await office.post("analyst", "/packages", {"title": "x"}, headers=headers), 201)
            answer = await office.get("analyst", f"/packages/{package['id']}/timeline")
            assert ok(answer)["items"][0]["correlation_id"] == ref
            assert vendor.bank not in answer.text
            assert vendor.contact not in answer.text

    async def test_a_text_that_only_begins_like_one_is_a_text(self, office: Office):
        for title in ("sealed: the bids", "sealed:envelope", f"sealed:{'a' * 63}", f"sealed:{'g' * 64}"):
            made = applied(await office.post("analyst", "/packages", {"title": title}), 201)
            events = ok(await office.get("viewer", f"/packages/{made['id']}/timeline"))["items"]
            assert made["title"] == title
            assert events[0]["payload"]["fields"]["title"] == title


class TestRevised:
    async def test_what_was_sealed_with_a_proposal_is_what_is_applied_when_it_is_proposed_again(self, office: Office):
        """A proposal that is revised holds references already; they must not be sealed a second time."""
        phone = secrets.token_hex(6)
        party = applied(await office.post("analyst", "/parties", {"name": "x", "kind": "vendor"}), 201)
        said = {"contacts": [{"name": "Contact", "phone": phone}]}
        approval = waits(await office.patch("analyst", f"/parties/{party['id']}", said), "confirmation_required")
        ok(await office.post("analyst", f"/approvals/{approval['id']}/withdraw", {}))
        again = waits(await office.post("analyst", f"/approvals/{approval['id']}/revise", {}), "confirmation_required")
        assert again["supersedes"] == approval["id"]
        resource = applied(await office.post("analyst", f"/approvals/{again['id']}/confirm", {}))
        assert resource["contacts"][0]["phone"] == phone
        other = secrets.token_hex(6)
        said = {"contacts": [{"name": "Contact", "phone": secrets.token_hex(6)}]}
        approval = waits(await office.patch("analyst", f"/parties/{party['id']}", said), "confirmation_required")
        ok(await office.post("analyst", f"/approvals/{approval['id']}/withdraw", {}))
        patches = {party["id"]: {"contacts": [{"name": "Contact", "phone": other}]}}
        again = waits(
            await office.post("analyst", f"/approvals/{approval['id']}/revise", {"patches": patches}),
            "confirmation_required",
        )
        resource = applied(await office.post("analyst", f"/approvals/{again['id']}/confirm", {}))
        assert resource["contacts"][0]["phone"] == other

    async def test_a_patch_of_another_record_is_not_taken_along(self, office: Office, vendor: Vendor):
        party = applied(await office.post("analyst", "/parties", {"name": "x", "kind": "vendor"}), 201)
        approval = waits(
            await office.patch("analyst", f"/parties/{party['id']}", {"name": "y"}), "confirmation_required"
        )
        ok(await office.post("analyst", f"/approvals/{approval['id']}/withdraw", {}))
        answer = await office.post(
            "analyst", f"/approvals/{approval['id']}/revise", {"patches": {vendor.id: {"name": "z"}}}
        )
        problem(answer, 422, "invalid_input")


class TestCredentials:
    async def test_neither_address_nor_hash_nor_reference_is_ever_shown(self, office: Office):
        password, email = f"password-{secrets.token_hex(8)}", f"{secrets.token_hex(8)}@example.org"
        approval = waits(
            await office.post("root", "/people", {"name": "New", "email": email, "password": password}),
            "confirmation_required",
        )
        answer = await office.post("root", f"/approvals/{approval['id']}/confirm", {})
        person = applied(answer)
        paths = (
            f"/people/{person['id']}",
            "/people?limit=200",
            f"/audit/person/{person['id']}",
            f"/approvals/{approval['id']}",
            f"/approvals/{approval['id']}/timeline",
            "/audit?type=person.created&limit=200",
        )
        shown = [answer, *[await office.get(who, path) for who in ("root", "inspector") for path in paths]]
        async with office.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select password_hash from identity.credential where person_id = %s", (person["id"],)
            )
        assert row is not None
        for one in shown:
            assert one.status_code == 200
            for secret in (password, row[0], row[0].rsplit("$", 1)[1], email):
                assert secret not in one.text
            assert not [text for text in texts(one.json()) if text.startswith("sealed:")]
        assert ok(await office.post(None, "/auth/login", {"email": email, "password": password}))["access_token"]
