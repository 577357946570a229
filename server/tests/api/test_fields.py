"""T13: what is not writable is never written, what is not readable is never returned, and types are what they say."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import pytest
from jsonschema import Draft202012Validator
from pydantic import ConfigDict

from pmis.api import docs
from pmis.api.app import RESOURCES
from pmis.approval.governed import Input, parse_input
from pmis.approval.models import Approval
from pmis.approval.registry import NOUNS
from pmis.identity.models import Person
from pmis.kit.errors import InvalidInputError
from pmis.package.noun import PackageNoun
from pmis.package.schemas import PackagePatch
from tests.api.description import operations, validator
from tests.api.expect import ok, problem
from tests.api.matrix import Matrix, cells
from tests.api.office import keep_nothing
from tests.api.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.api.office import Office, Records
    from tests.api.rows import Row

pytestmark = pytest.mark.anyio

UNWRITABLE: Final[dict[str, Any]] = {
    "id": "01900000-0000-7000-8000-0000000000ff",
    "version": 99,
    "project_id": "01900000-0000-7000-8000-0000000000ff",
    "number": 999,
    "code": "ZZZ-999",
    "status": "completed",
    "created_at": "2001-01-01T00:00:00Z",
    "updated_at": "2001-01-01T00:00:00Z",
    "deleted_at": "2001-01-01T00:00:00Z",
    "deleted_by": "nobody",
    "deleted": True,
    "governance": {"route": "AUTO"},
    "digest": "0" * 64,
    "policy_version": 99,
    "route": "AUTO",
    "rule": "mine",
    "score": 0,
    "decision": {"route": "AUTO"},
    "verdicts": [],
    "applied": [],
    "source": "import",
    "writer": "system",
    "flags": [],
    "actor": "system:root",
    "on_behalf_of": "person:01900000-0000-7000-8000-0000000000ff",
    "proposer": {"ref": "system:root"},
    "author": "person:01900000-0000-7000-8000-0000000000ff",
    "author_name": "Somebody else",
    "credential": "sealed:" + "0" * 64,
    "password_hash": "$argon2id$x",
    "password": "a password to take over",
    "email": "taken@over.example",
    "instance_admin": True,
    "instance_auditor": True,
    "active": True,
    "roles": ["admin"],
    "person_id": "01900000-0000-7000-8000-0000000000ff",
    "from_person": "01900000-0000-7000-8000-0000000000ff",
    "to_person": "01900000-0000-7000-8000-0000000000ff",
    "package_id": "01900000-0000-7000-8000-0000000000ff",
    "entity_id": "01900000-0000-7000-8000-0000000000ff",
    "entity_type": "project",
    "prefix": "ZZ",
    "currency": "USD",
    "name": "Another",
    "kind": "customer",
    "doc": "{}",
    "xid": 1,
    "occurred_at": "2001-01-01T00:00:00Z",
    "content_hash": "0" * 64,
    "__proto__": {"admin": True},
    "is_admin": True,
}

WRITABLE: Final[dict[str, frozenset[str]]] = {
    "CommentCreate": frozenset({"entity_id", "entity_type"}),
    "Decide": frozenset({"digest"}),
    "DecideWithReason": frozenset({"digest"}),
    "DelegationCreate": frozenset({"to_person"}),
    "InvitationAccept": frozenset({"password"}),
    "InvitationCreate": frozenset({"email", "instance_admin", "instance_auditor", "name", "roles"}),
    "MemoryCreate": frozenset({"entity_id", "entity_type", "kind"}),
    "MemoryPatch": frozenset({"kind"}),
    "Login": frozenset({"code", "email", "password"}),
    "MembershipCreate": frozenset({"person_id", "roles"}),
    "MembershipPatch": frozenset({"roles"}),
    "PackageCreate": frozenset({"currency"}),
    "PackagePatch": frozenset({"currency"}),
    "PackageTransition": frozenset({"currency", "status"}),
    "PackageTypeCreate": frozenset({"name"}),
    "PartyCreate": frozenset({"name", "kind", "email"}),
    "PartyPatch": frozenset({"name", "kind", "email"}),
    "PersonCreate": frozenset({"name", "email", "password", "active", "instance_admin", "instance_auditor"}),
    "PersonPatch": frozenset({"name", "active", "instance_admin", "instance_auditor"}),
    "ProjectCreate": frozenset({"name", "prefix", "currency"}),
    "ProjectPatch": frozenset({"name"}),
    "Simulate": frozenset({"status", "writer", "flags"}),
    "TaskCreate": frozenset({"package_id"}),
    "TaskTransition": frozenset({"status"}),
    "TokenCreate": frozenset({"name"}),
    "Reauthentication": frozenset({"code", "password"}),
    "SecondFactorCode": frozenset({"code"}),
    "SecondFactorGiven": frozenset({"code"}),
}
"""Which of these fields a body takes after all, by hand: a field that becomes writable must be put here first."""

Call = tuple[str, str, str, dict[str, Any]]


def calls(records: Records) -> dict[str, Call]:
    """For each body: who sends it where, and one that is good."""

    def ref(kind: str, state: str = "live") -> str:
        return str(records.ids[kind][state])

    return {
        "CommentCreate": (
            "analyst",
            "POST",
            "/comments",
            {"entity_type": "package", "entity_id": ref("package"), "body": "x"},
        ),
        "CommentPatch": ("analyst", "PATCH", f"/comments/{ref('comment')}", {"body": "y"}),
        "Decide": ("admin2", "POST", f"/approvals/{ref('approval')}/approve", {}),
        "DecideWithReason": ("admin2", "POST", f"/approvals/{ref('approval')}/reject", {"reason": "No."}),
        "DelegationCreate": (
            "admin",
            "POST",
            "/delegations",
            {
                "to_person": ref("person", "admin2"),
                "starts_at": "2026-12-01T00:00:00Z",
                "ends_at": "2026-12-02T00:00:00Z",
            },
        ),
        "DelegationPatch": ("admin", "PATCH", f"/delegations/{ref('delegation')}", {"revoked": True}),
        "IdentityLink": ("viewer", "POST", "/auth/identities", {"provider": "none"}),
        "InvitationAccept": (
            "anonymous",
            "POST",
            "/invitations/accept",
            {"token": "pmisi_" + "A" * 64, "password": "long enough to be one"},
        ),
        "InvitationCreate": ("root", "POST", "/invitations", {"name": "x", "email": "x@example.org"}),
        "MemoryCreate": (
            "analyst",
            "POST",
            "/memories",
            {"entity_type": "package", "entity_id": ref("package"), "kind": "context", "text": "x"},
        ),
        "MemoryPatch": ("analyst", "PATCH", f"/memories/{ref('memory')}", {"text": "y"}),
        "Login": ("anonymous", "POST", "/auth/login", {"email": "fields@example.org", "password": "a password"}),
        "Logout": ("viewer", "POST", "/auth/logout", {}),
        "MembershipCreate": (
            "admin",
            "POST",
            "/memberships",
            {"person_id": ref("person", "stranger"), "roles": ["viewer"]},
        ),
        "MembershipPatch": ("admin", "PATCH", f"/memberships/{ref('membership')}", {"roles": ["analyst"]}),
        "MailAttach": (
            "admin",
            "POST",
            f"/mail/messages/{ref('email', 'waiting')}/attach",
            {"package": ref("package")},
        ),
        "JobEnd": ("admin", "POST", f"/jobs/{ref('job', 'queued')}/cancel", {}),
        "MailDismiss": ("admin", "POST", f"/mail/messages/{ref('email')}/dismiss", {}),
        "MailMove": ("admin", "POST", f"/mail/messages/{ref('email')}/move", {"project": None}),
        "ChatMessage": ("analyst", "POST", "/chat", {"query": "What can you do?"}),
        "SwitchOff": ("root", "POST", "/assistant/stop", {}),
        "MarkRead": ("analyst", "POST", "/notifications/read", {}),
        "Preferences": ("analyst", "PATCH", "/notifications/preferences", {"mail": "daily"}),
        "PackageCreate": ("analyst", "POST", "/packages", {"title": "x"}),
        "PackagePatch": ("analyst", "PATCH", f"/packages/{ref('package')}", {"description": "y"}),
        "PackageTransition": ("analyst", "POST", f"/packages/{ref('package')}/transitions", {"status": "submitted"}),
        "PackageTypeCreate": ("admin", "POST", "/package-types", {"name": "x", "fields_schema": {}}),
        "PackageTypePatch": ("admin", "PATCH", f"/package-types/{ref('package_type')}", {"description": "y"}),
        "PartyCreate": ("analyst", "POST", "/parties", {"name": "x", "kind": "vendor"}),
        "PartyPatch": ("analyst", "PATCH", f"/parties/{ref('party')}", {"data": {"a": 1}}),
        "PasswordChange": (
            "viewer",
            "POST",
            "/auth/password",
            {"current_password": "not known", "new_password": "correct horse battery"},
        ),
        "PersonCreate": (
            "root",
            "POST",
            "/people",
            {"name": "x", "email": "x@example.org", "password": "long enough to be one"},
        ),
        "PersonPatch": ("root", "PATCH", f"/people/{ref('person', 'viewer')}", {"name": "y"}),
        "PolicyPatch": ("root", "PATCH", "/policy", {"document": json.loads(_policy())}),
        "ProjectCreate": ("root", "POST", "/projects", {"name": "x", "prefix": "ZZX", "currency": "EUR"}),
        "ProjectPatch": ("admin", "PATCH", f"/projects/{ref('project')}", {"description": "y"}),
        "Proposal": (
            "analyst",
            "POST",
            "/proposals",
            {"changes": [{"operation": "create", "target_type": "package", "project": None, "patch": {"title": "x"}}]},
        ),
        "Proposed": ("analyst", "DELETE", f"/packages/{ref('package')}", {"reason": "x"}),
        "Reauthentication": ("viewer", "POST", "/auth/reauthenticate", {"password": "not known"}),
        "SecondFactorCode": ("viewer", "POST", "/auth/second-factor/confirm", {"code": "123456"}),
        "SecondFactorGiven": ("viewer", "DELETE", "/auth/second-factor", {}),
        "Refresh": ("anonymous", "POST", "/auth/refresh", {"refresh_token": "pmisr_" + "A" * 43}),
        "Revise": ("analyst", "POST", f"/approvals/{ref('approval', 'deleted')}/revise", {"reason": "x"}),
        "Simulate": ("viewer", "POST", "/policy/simulate", {"operation": "patch", "target_type": "package"}),
        "TaskCreate": ("analyst", "POST", "/tasks", {"package_id": ref("package"), "title": "x"}),
        "TaskPatch": ("analyst", "PATCH", f"/tasks/{ref('task')}", {"description": "y"}),
        "TaskTransition": ("analyst", "POST", f"/tasks/{ref('task')}/transitions", {"status": "in_progress"}),
        "TokenCreate": ("viewer", "POST", "/tokens", {"name": "x", "expires_in_days": 1}),
        "WebhookCreate": (
            "admin",
            "POST",
            "/webhooks",
            {"url": "https://hooks.example.org", "types": ["task.*"], "project": ref("project")},
        ),
        "WebhookPatch": ("admin", "PATCH", f"/webhooks/{ref('webhook')}", {"description": "Another"}),
        "WebhookSecretChange": ("admin", "POST", f"/webhooks/{ref('webhook')}/secret", {"overlap_hours": 1}),
        "Verify": ("inspector", "POST", "/audit/verify", {}),
    }


def _policy() -> str:
    from pmis.policy.document import default_policy

    return json.dumps({**default_policy().to_json(), "name": "Another"})


@pytest.fixture
async def desk(furnished: Office, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The furnished office, in which nothing is kept, and somebody who can sign in."""
    records = furnished.records["a"]
    if "fields" not in records.values:
        records.values["fields"] = str(await furnished.sign_up("Fields", "fields@example.org"))
    keep_nothing(monkeypatch)
    return furnished


async def written(desk: Office, name: str, fields: dict[str, Any]) -> list[str]:
    """The fields that are not the caller's to write and were not refused."""
    who, method, path, body = calls(desk.records["a"])[name]
    if name == "Proposal":
        body["changes"][0]["project"] = desk.a.prefix
    found: list[str] = []
    for field, poison in fields.items():
        answer = await desk.call(None if who == "anonymous" else who, method, path, {**body, field: poison})
        if answer.status_code != 422 or answer.json()["errors"] != [
            {"pointer": f"/{field}", "message": "Extra inputs are not permitted", "type": "extra_forbidden"}
        ]:
            found.append(f"{name}.{field}: {answer.status_code} {answer.text[:200]}")
    return found


async def test_every_body_has_a_call(office: Office):
    assert set(calls(_Anything())) == set(docs.BODIES)  # type: ignore[arg-type]


class _Anything:
    """Records of which every id is known."""

    class _Ids(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return self

        def __str__(self) -> str:
            return "01900000-0000-7000-8000-0000000000ff"

    ids: ClassVar[dict[str, Any]] = _Ids()


def test_what_is_writable_is_written_down():
    for name, model in docs.BODIES.items():
        assert set(model.model_fields) & set(UNWRITABLE) == WRITABLE.get(name, frozenset()), name


@pytest.mark.parametrize("name", sorted(docs.BODIES))
async def test_no_body_takes_a_field_that_is_not_its_own(desk: Office, name):
    who = calls(desk.records["a"])[name][0]
    desk.headers(None if who == "anonymous" else who)
    before = await desk.count()
    fields = {field: value for field, value in UNWRITABLE.items() if field not in docs.BODIES[name].model_fields}
    assert not await written(desk, name, fields)
    assert await desk.count() == before


NOT_TAKEN: Final = {
    "IdentityLink",
    "InvitationAccept",
    "Login",
    "PasswordChange",
    "Reauthentication",
    "Refresh",
    "SecondFactorCode",
}
"""Bodies that hold a password, a code or a token, which nobody here knows."""


@pytest.mark.parametrize("name", sorted(set(docs.BODIES) - NOT_TAKEN))
async def test_the_same_body_without_it_is_taken(desk: Office, name):
    """The control: what was refused was refused for the field."""
    who, method, path, body = calls(desk.records["a"])[name]
    if name == "Proposal":
        body["changes"][0]["project"] = desk.a.prefix
    answer = await desk.call(who, method, path, body)
    assert answer.status_code in (200, 201, 202), answer.text


class TestNested:
    @pytest.mark.parametrize("field", UNWRITABLE)
    async def test_a_change_of_a_proposal_takes_none_either(self, desk: Office, field):
        change = {"operation": "create", "target_type": "comment", "project": desk.a.prefix}
        package = str(desk.records["a"].ids["package"]["live"])
        patch = {"entity_type": "package", "entity_id": package, "body": "x"}
        poison = "x" if field == "credential" else UNWRITABLE[field]
        answer = await desk.post("analyst", "/proposals", {"changes": [{**change, "patch": patch, field: poison}]})
        problem(answer, 422, "invalid_input")
        if field not in patch:
            said = {"changes": [{**change, "patch": {**patch, field: poison}}]}
            body = problem(await desk.post("analyst", "/proposals", said), 422, "invalid_input")
            assert body["errors"][0]["pointer"] == f"/changes/0/patch/{field}"

    @pytest.mark.parametrize("name", ["reason", "impact_level", "uncertainty_level", "project"])
    async def test_what_is_said_of_a_proposal_is_said_once(self, desk: Office, name):
        patch = {"title": "x", name: {"reason": "x", "project": "x"}.get(name, "low")}
        change = {"operation": "create", "target_type": "package", "project": desk.a.prefix, "patch": patch}
        problem(await desk.post("analyst", "/proposals", {"changes": [change]}), 422, "invalid_input")

    @pytest.mark.parametrize("field", ["id", "verified", "seen_by", "__proto__"])
    async def test_contacts_and_bank_details_neither(self, desk: Office, field):
        for part in ({"contacts": [{"name": "x", field: 1}]}, {"bank_details": {"holder": "x", field: 1}}):
            answer = await desk.post("analyst", "/parties", {"name": "x", "kind": "vendor", **part})
            problem(answer, 422, "invalid_input")

    async def test_a_revision_neither(self, desk: Office):
        approval = desk.records["a"].ids["approval"]["deleted"]
        shown = ok(await desk.get("analyst", f"/approvals/{approval}"))
        for field in ("status", "id", "code", "number", "deleted_at"):
            said = {"patches": {shown["target_id"]: {"title": "x", field: UNWRITABLE[field]}}}
            problem(await desk.post("analyst", f"/approvals/{approval}/revise", said), 422, "invalid_input")

    async def test_extra_fields_stay_in_their_place(self, desk: Office):
        answer = await desk.post("analyst", "/packages", {"title": "x", "data": UNWRITABLE_DATA})
        created = ok(answer, 201)["resource"]
        assert created["data"] == UNWRITABLE_DATA
        assert (created["status"], created["version"], created["deleted_at"]) == ("draft", 1, None)
        assert created["code"].startswith(desk.a.prefix)


UNWRITABLE_DATA: Final = {
    name: value for name, value in UNWRITABLE.items() if not str(value).startswith("sealed:") and name != "__proto__"
}


class TestPlantedFields:
    """The controls: with a field too many, the same check says so."""

    async def test_a_body_that_keeps_what_it_does_not_know(self, desk: Office, monkeypatch: pytest.MonkeyPatch):
        class Loose(PackagePatch):
            model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", strict=True, frozen=True)

        monkeypatch.setattr(PackageNoun, "patch_input", Loose)
        assert len(await written(desk, "PackagePatch", UNWRITABLE)) >= len(UNWRITABLE) - 1

    async def test_a_body_that_drops_what_it_does_not_know(self, desk: Office, monkeypatch: pytest.MonkeyPatch):
        class Careless(PackagePatch):
            model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True, frozen=True)

        monkeypatch.setattr(PackageNoun, "patch_input", Careless)
        assert len(await written(desk, "PackagePatch", UNWRITABLE)) >= len(UNWRITABLE) - 1

    async def test_a_field_that_became_writable(self, desk: Office, monkeypatch: pytest.MonkeyPatch):
        class Open(PackagePatch):
            status: str | None = None

        monkeypatch.setattr(PackageNoun, "patch_input", Open)
        assert await written(desk, "PackagePatch", {"status": "completed"})


class TestReturned:
    """An answer holds the fields that its description names, and no other."""

    HIDDEN: Final = re.compile(r'"(password|password_hash|email_hash|doc|xid|wrapped|ciphertext|secret)"')

    @pytest.mark.parametrize("resource", RESOURCES, ids=[one.path for one in RESOURCES])
    async def test_records(self, furnished: Office, resource):
        known = set((resource.output or resource.noun.model).model_fields)
        for who in ("viewer", "admin", "auditor", "inspector"):
            answer = await furnished.get(who, f"/{resource.path}?limit=200&deleted=true")
            assert not self.HIDDEN.search(answer.text)
            for item in ok(answer)["items"]:
                assert set(item) == known
                one = await furnished.get(who, f"/{resource.path}/{item['id']}")
                assert set(ok(one)) == known
                assert not self.HIDDEN.search(one.text)

    async def test_people_and_approvals(self, furnished: Office):
        for path, model in (("/people", Person), ("/approvals", Approval)):
            for who in ("viewer", "admin", "inspector"):
                answer = await furnished.get(who, f"{path}?limit=200")
                assert not self.HIDDEN.search(answer.text)
                for item in ok(answer)["items"]:
                    # Whom somebody hands over to is told of those who did.
                    assert set(item) | {"hand_over_to"} == set(model.model_fields) | {"hand_over_to"}
                    if path == "/people":
                        assert item["credential"] in (None, "protected")

    async def test_events(self, furnished: Office):
        for path in ("/audit?limit=200", f"/packages/{furnished.records['a'].ids['package']['live']}/timeline"):
            answer = await furnished.get("auditor", path)
            assert not self.HIDDEN.search(answer.text)
            for item in ok(answer)["items"]:
                assert set(item) == set(docs.EventOut.model_fields)


class TestTypes:
    """Bodies take the types that their schema says, and no others: a boolean is no number, a number no text."""

    VALUES: Final = (True, False, 0, 1, -1, 1.5, "", "x", "1", [], ["x"], [[]], {}, {"x": 1}, None)

    @staticmethod
    def schema(name: str) -> dict[str, Any]:
        model = docs.BODIES[name]
        return model.model_json_schema(mode="validation")

    @pytest.mark.parametrize("name", sorted(docs.BODIES))
    def test_what_the_schema_does_not_allow_is_refused(self, name):
        schema = self.schema(name)
        judge = Draft202012Validator(schema)
        wrong = 0
        for field in docs.BODIES[name].model_fields:
            for value in self.VALUES:
                body = {field: value}
                # Only this field is judged: that others are missing is not what makes it wrong.
                if not [one for one in _errors(judge, body) if list(one.absolute_path)[:1] == [field]]:
                    continue
                wrong += 1
                with pytest.raises(InvalidInputError) as caught:
                    parse_input(cast("type[Input]", docs.BODIES[name]), json.dumps(body).encode())
                pointers = [item["pointer"] for item in caught.value.extra["errors"]]
                assert any(pointer.startswith(f"/{field}") for pointer in pointers), (name, field, value, pointers)
        assert wrong or not docs.BODIES[name].model_fields

    def test_all_nouns_are_strict(self):
        for noun in NOUNS.values():
            for model in (noun.create_input, noun.patch_input, noun.transition_input):
                assert model.model_config.get("extra") == "forbid"
                assert model.model_config.get("strict") is True


def _errors(judge: Draft202012Validator, body: Any) -> Iterator[Any]:
    errors: Callable[[Any], Iterator[Any]] = judge.iter_errors  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportAssignmentType]
    return errors(body)


def test_the_size_of_the_matrix():
    assert sum(len(UNWRITABLE.keys() - model.model_fields.keys()) for model in docs.BODIES.values()) >= 1200


class TestDescribed:
    """What comes back, from every operation, is what its description names: a field too many is a leak to be."""

    @staticmethod
    def closed(document: dict[str, Any]) -> dict[str, Any]:
        """The document with every object closed that names its fields and does not say that it is open."""
        document = copy.deepcopy(document)
        for schema in document["components"]["schemas"].values():
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
        return document

    @staticmethod
    async def faults(desk: Office, document: dict[str, Any], rows: Sequence[Row]) -> tuple[list[str], set[str]]:
        """What is wrong with the answers that say yes, and the operations that gave one."""
        told = {f"{method} {path.removeprefix('/api/v1')}": one for method, path, one in operations(document)}
        found: list[str] = []
        answered: set[str] = set()
        for row in rows:
            for cell in cells(row, sorted(row.may - {"anonymous"})[:3]):
                if cell.relation != "own" or cell.coded:
                    continue
                method, path, more = Matrix(desk).request(cell)
                answer = await desk.call(cell.actor, method, path, **more)
                if answer.status_code >= 300:
                    continue
                name = f"{row.method} {row.path}"
                answered.add(name)
                content = told[name]["responses"][str(answer.status_code)]["content"]
                kind = answer.headers["content-type"].partition(";")[0]
                if kind != "application/json":
                    assert kind in content
                    continue
                errors = list(_errors(validator(document, content[kind]["schema"]), answer.json()))
                found += [f"{cell}: {error.message[:200]} at {list(error.absolute_path)}" for error in errors[:3]]
        return found, answered

    async def test_no_answer_holds_more(self, desk: Office):
        found, answered = await self.faults(desk, self.closed(desk.app.openapi()), ROWS)
        assert not found, "\n".join(found[:20])
        # Nobody's password, token or signature is known here; those answers have tests of their own.
        assert {f"{row.method} {row.path}" for row in ROWS} - answered == {
            "GET /auth/oidc/{provider}/callback",
            "GET /auth/oidc/{provider}/start",
            "POST /auth/identities",
            "POST /auth/login",
            "POST /auth/password",
            "POST /auth/reauthenticate",
            "POST /auth/refresh",
            "POST /invitations/accept",
            "POST /mail/inbound",
            "POST /auth/second-factor/confirm",
        }

    @pytest.mark.parametrize(
        ("path", "model", "field"),
        [
            ("GET /packages/{reference}", "Package", "title"),
            ("GET /audit/events/{event_id}/proof", "Proof", "path"),
            ("GET /audit/checkpoints", "CheckpointOut", "note"),
            ("POST /audit/verify", "Verification", "findings"),
            ("POST /imports/ocds", "ImportPreview", "digest"),
        ],
    )
    async def test_a_field_that_nobody_described_is_found(self, desk: Office, path, model, field):
        """The control."""
        document = copy.deepcopy(desk.app.openapi())
        schema = document["components"]["schemas"][model]
        del schema["properties"][field]
        schema["required"] = [name for name in schema.get("required", []) if name != field]
        rows = [row for row in ROWS if f"{row.method} {row.path}" == path]
        found, _ = await self.faults(desk, self.closed(document), rows)
        assert found
