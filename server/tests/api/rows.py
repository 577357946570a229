"""Who may do what: one row for each operation, written down by hand and not read from the policy.

A row says how to call the operation on a record in some place, which roles see the record, and which get through. The
matrix of `matrix.py` calls it for everybody in every place; an operation without a row fails the build.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.notify.unsubscribing import unsubscribe_token
from pmis.policy.document import default_policy
from tests.builders import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.api.office import Records

READERS: Final = frozenset({"viewer", "analyst", "operator", "admin", "executive", "auditor", "inspector"})
WRITERS: Final = frozenset({"analyst", "operator", "admin", "executive"})
WORKERS: Final = frozenset({"analyst", "operator", "admin"})
DECIDERS: Final = frozenset({"admin", "executive"})
ADMIN: Final = frozenset({"admin"})
AUDITORS: Final = frozenset({"admin", "executive", "auditor", "inspector"})
EXPORTERS: Final = frozenset({"admin", "auditor", "inspector"})
ROOT: Final = frozenset({"root"})
SIGNED_IN: Final = READERS | {"nobody", "root"}
EVERYBODY: Final = SIGNED_IN | {"anonymous"}

UNKNOWN: Final = UUID("01900000-0000-7000-8000-00000000dead")
MALFORMED: Final = "no-such'--"


@dataclass(frozen=True)
class Place:
    """Where the records lie that a request is about: somebody's project, in one state, or nowhere."""

    records: Records | None
    project: str
    state: str = "live"
    broken: bool = False
    coded: bool = False

    def ref(self, kind: str, state: str | None = None) -> str:
        """How a request names a record of this kind here."""
        if self.broken:
            return MALFORMED
        if self.records is None:
            return "ZZZ999-999" if self.coded and kind == "package" else str(UNKNOWN)
        if self.coded and kind == "package":
            return self.records.values[f"package.{state or self.state}.code"]
        if self.coded and kind == "project":
            return self.project
        if kind == "project":
            return str(self.records.ids["project"]["live"])
        return str(self.records.ids[kind][state or self.state])


@dataclass(frozen=True)
class Row:
    """One operation, asked for in one way."""

    method: str
    path: str
    kind: str
    may: frozenset[str]
    sees: frozenset[str] = READERS
    body: Callable[[Place], Any] | None = None
    query: Callable[[Place], str] | None = None
    fill: Mapping[str, str] = field(default_factory=dict[str, str])
    states: tuple[str, ...] = ("live", "waiting", "deleted")
    refused: frozenset[int] = frozenset({403})
    """What somebody is answered who sees the record and does not get through."""
    malformed: int = 404
    content: bytes | None = None
    instance: bool = False
    """The record belongs to the instance: in whose project it lies does not matter, there is none."""
    hopeless: bool = False
    """Nobody gets further than a refusal of the domain here."""

    @property
    def name(self) -> str:
        """The row in test ids and messages."""
        more = [*self.fill.values(), *(["+"] if self.query else []), *([self.kind] if "{" not in self.path else [])]
        return " ".join([self.method, self.path, *more]).strip()

    @property
    def knows_people(self) -> bool:
        """Whether the instance's administrators read in it about everybody's accounts."""
        return self.kind == "person" or self.path in ("/people", "/audit")

    @property
    def placed(self) -> bool:
        """Whether a request says where: by a path, a parameter or a body."""
        return bool(self.kind)


def _project(place: Place) -> str:
    return f"project={place.ref('project')}"


def _found_in(place: Place) -> str:
    return f"q=memory&project={place.ref('project')}"


def _dry(place: Place) -> str:
    del place
    return "dry_run=true"


def _as_of(place: Place) -> str:
    del place
    return "as_of=2100-01-01T00:00:00Z"


def _token(place: Place) -> str:
    del place
    return f"token={unsubscribe_token(SECRET, UNKNOWN)}"


def said(**fields: Any) -> Callable[[Place], Any]:
    """A body that is the same everywhere."""
    return lambda _: fields


def _in_project(**fields: Any) -> Callable[[Place], Any]:
    return lambda place: {**fields, "project": place.ref("project")}


def _person(place: Place, state: str) -> str:
    """Somebody of the place, or, where there is no place, somebody who could be."""
    return _SOME if place.records is None else place.ref("person", state)


def _bundle(kind: str, operation: str, patch: Mapping[str, Any]) -> Callable[[Place], Any]:
    return lambda place: {
        "changes": [{"operation": operation, "target_type": kind, "target": place.ref(kind), "patch": dict(patch)}],
        "reason": "Because.",
    }


def _another_policy() -> Any:
    return {**default_policy().to_json(), "name": "Another"}


_RELEASE: Final = json.dumps(
    {
        "ocid": "ocds-213czf-000-77777",
        "id": "1",
        "date": "2026-01-01T00:00:00Z",
        "tag": ["planning"],
        "initiationType": "tender",
        "planning": {"budget": {"project": "New", "amount": {"amount": 1, "currency": "EUR"}}},
    }
).encode()
_SAID: Final = frozenset({403, 409})
_SOME: Final = "01900000-0000-7000-8000-0000000000aa"
_TIMES: Final = {"starts_at": "2026-12-01T00:00:00Z", "ends_at": "2026-12-02T00:00:00Z"}


@dataclass(frozen=True)
class _Collection:
    path: str
    kind: str
    states: tuple[str, ...]
    create: Callable[[Place], Any] | None
    patch: Mapping[str, Any] | None
    proposers: frozenset[str]
    deleters: frozenset[str] = frozenset()
    step: str | None = None
    parent: str = "project"
    owners: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Who changes a record in each state, where that is not everybody who creates one."""


_ALL_STATES: Final = ("live", "waiting", "deleted")
_TWO: Final = ("live", "waiting")

_COLLECTIONS: Final = (
    _Collection(
        "packages",
        "package",
        _ALL_STATES,
        _in_project(title="New"),
        {"description": "Another"},
        WRITERS,
        WORKERS,
        step="cancelled",
    ),
    _Collection(
        "tasks",
        "task",
        _ALL_STATES,
        lambda place: {"package_id": place.ref("package"), "title": "New"},
        {"description": "Another"},
        WORKERS,
        WORKERS,
        step="in_progress",
        parent="package",
    ),
    _Collection(
        "parties",
        "party",
        _ALL_STATES,
        _in_project(name="New", kind="vendor"),
        {"data": {"a": 1}},
        WRITERS,
        WORKERS,
    ),
    _Collection("customers", "party", _ALL_STATES, None, None, frozenset()),
    _Collection("vendors", "party", _ALL_STATES, None, None, frozenset()),
    _Collection(
        "comments",
        "comment",
        _ALL_STATES,
        lambda place: {"entity_type": "package", "entity_id": place.ref("package"), "body": "New"},
        {"body": "Another"},
        # Only its author changes a comment; in this office that is the analyst.
        frozenset({"analyst"}),
        frozenset({"analyst"}),
        parent="package",
    ),
    _Collection(
        "memories",
        "memory",
        _ALL_STATES,
        lambda place: {
            "entity_type": "package",
            "entity_id": place.ref("package"),
            "kind": "context",
            "text": "New",
            "sources": [{"type": "package", "id": place.ref("package")}],
        },
        {"text": "Another"},
        WRITERS,
        WRITERS,
        parent="package",
    ),
    _Collection(
        "package-types",
        "package_type",
        _TWO,
        _in_project(name="New", fields_schema={"type": "object"}),
        {"description": "Another"},
        ADMIN,
    ),
    _Collection(
        "memberships",
        "membership",
        _TWO,
        lambda place: {"project": place.ref("project"), "person_id": _person(place, "stranger"), "roles": ["viewer"]},
        {"roles": ["executive"]},
        ADMIN,
    ),
    _Collection(
        "delegations",
        "delegation",
        _TWO,
        lambda place: {"project": place.ref("project"), "to_person": _person(place, "admin2"), **_TIMES},
        {"revoked": True},
        DECIDERS,
        # Nobody takes back what somebody else lent: the admin lent one, the executive the other.
        owners={"live": ADMIN, "waiting": frozenset({"executive"})},
    ),
)


def _rows_of(one: _Collection) -> list[Row]:
    base, item = f"/{one.path}", f"/{one.path}/{{reference}}"
    rows = [
        Row("GET", base, "", SIGNED_IN, SIGNED_IN),
        Row("GET", base, "project", READERS, query=_project, states=("live",)),
        Row("GET", item, one.kind, READERS, states=one.states),
        Row("GET", item, one.kind, READERS, states=one.states, query=_as_of),
        Row("GET", f"{item}/timeline", one.kind, READERS, states=one.states),
    ]
    creators = WRITERS if one.path == "comments" else one.proposers
    if one.create is not None:
        states = ("live",) if one.parent == "project" else ("live", "waiting")
        malformed = 404 if one.parent == "project" else 422
        rows += [
            Row(
                "POST",
                base,
                one.parent,
                creators,
                body=one.create,
                query=query,
                states=states,
                malformed=malformed,
            )
            for query in (None, _dry)
        ]
    if one.patch is not None:
        body, bundle = said(**one.patch), _bundle(one.kind, "patch", one.patch)
        groups = [((state,), may) for state, may in one.owners.items()] or [(one.states, one.proposers)]
        for states, may in groups:
            rows += [
                Row("PATCH", item, one.kind, may, body=body, states=states),
                Row("PATCH", item, one.kind, may, body=body, states=states, query=_dry),
                Row("POST", "/proposals", one.kind, may, body=bundle, states=states, malformed=422),
            ]
    if one.step:
        step = said(status=one.step, reason="Because.")
        rows += [
            Row("GET", f"{item}/transitions", one.kind, READERS, states=one.states),
            Row("POST", f"{item}/transitions", one.kind, WORKERS, body=step, states=one.states, refused=_SAID),
            Row(
                "POST",
                f"{item}/transitions",
                one.kind,
                WORKERS,
                body=step,
                states=one.states,
                refused=_SAID,
                query=_dry,
            ),
        ]
    if one.deleters:
        rows += [
            Row("DELETE", item, one.kind, one.deleters, states=one.states),
            Row("DELETE", item, one.kind, one.deleters, states=one.states, query=_dry),
            Row("POST", f"{item}/restore", one.kind, one.deleters, states=one.states),
        ]
    return rows


_MEMORIES: Final = [
    Row("GET", "/memories/search", "", SIGNED_IN, SIGNED_IN, query=lambda _: "q=memory"),
    Row("GET", "/memories/search", "project", READERS, query=_found_in, states=("live",)),
]
_PROJECTS: Final = [
    Row("GET", "/projects", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/projects", "project", READERS, query=_project, states=("live",)),
    Row("GET", "/projects/{reference}", "project", READERS, states=("live",)),
    Row("GET", "/projects/{reference}", "project", READERS, states=("live",), query=_as_of),
    Row("GET", "/projects/{reference}/timeline", "project", READERS, states=("live",)),
    Row("PATCH", "/projects/{reference}", "project", ADMIN, body=said(name="Another"), states=("live",)),
    Row("PATCH", "/projects/{reference}", "project", ADMIN, body=said(name="Another"), states=("live",), query=_dry),
    Row(
        "POST",
        "/proposals",
        "project",
        ADMIN,
        body=_bundle("project", "patch", {"name": "Another"}),
        states=("live",),
        malformed=422,
    ),
    Row("POST", "/projects", "", ROOT, SIGNED_IN, body=said(name="New", prefix="ZZNEW", currency="EUR")),
]

_ONE: Final = "/approvals/{approval_id}"
_APPROVAL_STATES: Final = ("live", "waiting", "deleted", "applied")
_APPROVALS: Final = [
    Row("GET", "/approvals", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/approvals", "", SIGNED_IN, SIGNED_IN, query=lambda _: "waiting_for=me"),
    Row("GET", "/approvals", "project", READERS, query=_project, states=("live",)),
    Row("GET", _ONE, "approval", READERS, states=_APPROVAL_STATES),
    Row("GET", f"{_ONE}/timeline", "approval", READERS, states=_APPROVAL_STATES),
    Row("POST", f"{_ONE}/approve", "approval", ADMIN, body=said(), refused=_SAID, states=_APPROVAL_STATES),
    Row("POST", f"{_ONE}/reject", "approval", ADMIN, body=said(reason="No."), refused=_SAID, states=_APPROVAL_STATES),
    Row(
        "POST",
        f"{_ONE}/request-changes",
        "approval",
        ADMIN,
        body=said(reason="More."),
        refused=_SAID,
        states=_APPROVAL_STATES,
    ),
    Row(
        "POST",
        f"{_ONE}/confirm",
        "approval",
        frozenset({"analyst"}),
        body=said(),
        refused=_SAID,
        states=_APPROVAL_STATES,
    ),
    Row(
        "POST",
        f"{_ONE}/withdraw",
        "approval",
        frozenset({"analyst"}),
        body=said(),
        refused=_SAID,
        states=_APPROVAL_STATES,
    ),
    Row(
        "POST",
        f"{_ONE}/revise",
        "approval",
        frozenset({"analyst"}),
        body=said(),
        refused=_SAID,
        states=_APPROVAL_STATES,
    ),
]

_AUDITED: Final = {
    "project": ("live",),
    "package": _ALL_STATES,
    "package_type": _TWO,
    "task": _ALL_STATES,
    "party": _ALL_STATES,
    "comment": _ALL_STATES,
    "memory": _ALL_STATES,
    "membership": _TWO,
    "delegation": _TWO,
    "approval": ("live",),
}
_AUDIT: Final = [
    Row("GET", "/audit", "", AUDITORS | ROOT, SIGNED_IN),
    Row("GET", "/audit", "project", AUDITORS, query=_project, states=("live",)),
    *(
        Row(
            "GET",
            "/audit/{entity_type}/{entity_id}",
            kind,
            AUDITORS,
            fill={"entity_type": kind},
            states=states,
        )
        for kind, states in _AUDITED.items()
    ),
    Row(
        "GET",
        "/audit/{entity_type}/{entity_id}",
        "person",
        frozenset({"root", "inspector"}),
        # Executives join decisions about the instance, and so read about it, but do not audit it.
        frozenset({"root", "inspector", "executive"}),
        fill={"entity_type": "person"},
        states=("viewer",),
        instance=True,
    ),
    Row("GET", "/audit/events/{event_id}", "event", AUDITORS, states=("live",)),
    Row("GET", "/audit/events/{event_id}/proof", "event", AUDITORS, states=("live",)),
    Row("GET", "/audit/checkpoints", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/audit/export", "", frozenset({"inspector"}), SIGNED_IN),
    Row("GET", "/audit/export", "project", EXPORTERS, query=_project, states=("live",)),
    Row("POST", "/audit/verify", "", frozenset({"inspector", "root"}), SIGNED_IN, body=said()),
]

_PEOPLE: Final = [
    Row("GET", "/people", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/people/{reference}", "person", READERS | ROOT, READERS | ROOT, states=("viewer", "admin")),
    Row(
        "PATCH",
        "/people/{reference}",
        "person",
        ROOT,
        READERS | ROOT,
        body=said(name="Another"),
        states=("viewer", "admin"),
    ),
    Row(
        "POST",
        "/people",
        "",
        ROOT,
        SIGNED_IN,
        body=said(name="New", email="new@example.org", password="long enough to be one"),
    ),
    Row(
        "POST",
        "/proposals",
        "person",
        ROOT,
        SIGNED_IN,
        body=_bundle("person", "patch", {"name": "Another"}),
        states=("viewer",),
        malformed=422,
        instance=True,
    ),
]

_OPERATOR: Final = frozenset({"operator"})
_JOBS: Final = [
    Row("GET", "/jobs", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/jobs", "project", READERS, query=_project, states=("live",)),
    Row("GET", "/jobs/dead-letters", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/jobs/dead-letters", "project", READERS, query=_project, states=("live",)),
    Row("GET", "/jobs/{job_id}", "job", ADMIN, ADMIN, states=("live", "waiting")),
    Row("GET", "/jobs/{job_id}/stream", "job", ADMIN, ADMIN, states=("live",)),
    # One that is done is refused, as the domain says, to those who may.
    Row("POST", "/jobs/{job_id}/retry", "job", ADMIN, ADMIN, states=("live", "waiting"), refused=_SAID),
    *[
        Row("POST", f"/jobs/{{job_id}}/{way}", "job", ADMIN, ADMIN, body=said(), states=states, refused=_SAID)
        for way, states in (("cancel", ("live", "queued")), ("dismiss", ("live", "waiting")))
    ],
    # Of a kind that there is none of: the one above is to be retried by name.
    Row(
        "POST",
        "/jobs/dead-letters/retry",
        "project",
        READERS,
        query=lambda place: f"kind=test.other&{_project(place)}",
        states=("live",),
    ),
    Row("POST", "/jobs/dead-letters/retry", "", SIGNED_IN, SIGNED_IN, query=lambda _: "kind=test.other"),
]

_REST: Final = [
    Row("GET", "/policy", "", SIGNED_IN, SIGNED_IN),
    Row("PATCH", "/policy", "", ROOT, SIGNED_IN, body=lambda _: {"document": _another_policy()}),
    Row("POST", "/policy/simulate", "", SIGNED_IN, SIGNED_IN, body=said(operation="patch", target_type="package")),
    Row("GET", "/auth/me", "", SIGNED_IN, SIGNED_IN),
    Row("POST", "/auth/login", "", EVERYBODY, EVERYBODY, body=said(email="x"), hopeless=True),
    Row("POST", "/auth/refresh", "", EVERYBODY, EVERYBODY, body=said(refresh_token=1), hopeless=True),
    Row("POST", "/auth/password", "", SIGNED_IN, SIGNED_IN, body=said(current_password="x"), hopeless=True),
    Row("POST", "/auth/logout", "", SIGNED_IN, SIGNED_IN, body=said()),
    Row("GET", "/auth/sessions", "", SIGNED_IN, SIGNED_IN),
    # Each sees and ends only their own; in this office that is the operator of each project.
    Row("DELETE", "/auth/sessions/{session_id}", "session", _OPERATOR, _OPERATOR, states=("live",)),
    Row("POST", "/auth/reauthenticate", "", SIGNED_IN, SIGNED_IN, body=said(password=1), hopeless=True),
    Row("GET", "/auth/second-factor", "", SIGNED_IN, SIGNED_IN),
    Row("POST", "/auth/second-factor", "", SIGNED_IN, SIGNED_IN, body=said()),
    Row("POST", "/auth/second-factor/confirm", "", SIGNED_IN, SIGNED_IN, body=said(code=1), hopeless=True),
    Row("DELETE", "/auth/second-factor", "", SIGNED_IN, SIGNED_IN),
    Row("DELETE", "/people/{reference}/second-factor", "person", ROOT, READERS | ROOT, states=("viewer", "admin")),
    Row("GET", "/tokens", "", SIGNED_IN, SIGNED_IN),
    Row("POST", "/tokens", "", SIGNED_IN, SIGNED_IN, body=said(name="x", expires_in_days=1)),
    Row(
        "POST",
        "/tokens",
        "project",
        READERS,
        body=lambda place: {"name": "x", "expires_in_days": 1, "projects": [place.ref("project")]},
        states=("live",),
    ),
    Row("DELETE", "/tokens/{token_id}", "token", _OPERATOR, _OPERATOR, states=("live",)),
    Row("POST", "/chat", "", SIGNED_IN, SIGNED_IN, body=said(query="What can you do?")),
    Row(
        "POST",
        "/chat",
        "project",
        READERS,
        body=lambda place: {"query": "What is overdue?", "project": place.ref("project")},
    ),
    Row(
        "POST",
        "/chat",
        "conversation",
        _OPERATOR,
        _OPERATOR,
        body=lambda place: {"query": "What can you do?", "conversation_id": place.ref("conversation")},
        states=("live",),
    ),
    Row("GET", "/conversations", "", SIGNED_IN, SIGNED_IN),
    *(
        Row(method, f"/conversations/{{conversation_id}}{way}", "conversation", _OPERATOR, _OPERATOR, states=("live",))
        for method, way in (("GET", ""), ("GET", "/export"), ("POST", "/resume"), ("DELETE", ""))
    ),
    Row("GET", "/assistant", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/assistant/usage", "", ROOT, SIGNED_IN),
    Row("POST", "/assistant/stop", "", ROOT, SIGNED_IN, body=said(reason="A test.")),
    Row("POST", "/assistant/start", "", ROOT, SIGNED_IN, body=said()),
    Row("GET", "/auth/providers", "", EVERYBODY, EVERYBODY),
    *(
        Row(
            "GET", f"/auth/oidc/{{provider}}/{step}", "", EVERYBODY, EVERYBODY, fill={"provider": "none"}, hopeless=True
        )
        for step in ("start", "callback")
    ),
    Row("GET", "/auth/identities", "", SIGNED_IN, SIGNED_IN),
    Row("POST", "/auth/identities", "", SIGNED_IN, SIGNED_IN, body=said(provider="none"), hopeless=True),
    Row("DELETE", "/auth/identities/{identity_id}", "identity", _OPERATOR, _OPERATOR, states=("live",)),
    Row("GET", "/changes/stream", "", SIGNED_IN, SIGNED_IN, query=lambda _: "seconds=0"),
    Row("GET", "/notifications", "", SIGNED_IN, SIGNED_IN),
    Row("POST", "/notifications/read", "", SIGNED_IN, SIGNED_IN, body=said(up_to=str(UNKNOWN))),
    Row("GET", "/notifications/preferences", "", SIGNED_IN, SIGNED_IN),
    Row("PATCH", "/notifications/preferences", "", SIGNED_IN, SIGNED_IN, body=said(mail="hourly")),
    Row("POST", "/notifications/unsubscribe", "", EVERYBODY, EVERYBODY, query=_token),
    Row("GET", "/health", "", EVERYBODY, EVERYBODY),
    Row("GET", "/readiness", "", EVERYBODY, EVERYBODY),
    Row(
        "POST",
        "/imports/ocds",
        "project",
        WRITERS,
        query=lambda place: f"dry_run=true&{_project(place)}",
        content=b"{}",
        states=("live",),
        hopeless=True,
    ),
    *(
        Row("POST", "/imports/ocds", "project", WRITERS, query=query, content=_RELEASE, states=("live",))
        for query in (_project, lambda place: f"dry_run=true&{_project(place)}")
    ),
    # Each sees only the imports that they began themselves; in this office that is the operator of each project.
    Row("GET", "/imports/{import_id}", "import", frozenset({"operator"}), frozenset({"operator"}), states=("live",)),
    Row("GET", "/exports/ocds/{reference}", "package", EXPORTERS, states=_ALL_STATES),
]

_HOOK: Final = "/webhooks/{webhook_id}"
_HOOKS: Final = [
    Row("GET", "/webhooks", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/webhooks", "project", READERS, query=_project, states=("live",)),
    Row("POST", "/webhooks", "", ROOT, SIGNED_IN, body=said(url="https://hooks.example.org", types=["task.*"])),
    Row(
        "POST",
        "/webhooks",
        "project",
        ADMIN,
        body=_in_project(url="https://hooks.example.org", types=["task.*"]),
        states=("live",),
    ),
    # Nobody else may know that there is one, where it leads or what it was told.
    *(
        Row(method, f"{_HOOK}{path}", "webhook", ADMIN, ADMIN, body, states=("live",))
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", said(description="Another")),
            ("GET", "/deliveries", None),
            ("POST", "/secret", said(overlap_hours=1)),
            ("POST", "/ping", said()),
            # In this office each hook has a delivery of the same id.
            ("POST", "/deliveries/{delivery_id}/redeliver", said()),
            ("DELETE", "", None),
        )
    ),
]

_MAIL: Final = "/mail/messages/{message_id}"
_ACCEPT: Final = f"{_MAIL}/suggestions/{{number}}/accept"
_FIRST: Final = {"number": "1"}
_MAILS: Final = [
    # Who calls is known by a signature, which nobody has here.
    Row("POST", "/mail/inbound", "", EVERYBODY, EVERYBODY, content=b"Subject: x", hopeless=True),
    Row("GET", "/mail/messages", "", SIGNED_IN, SIGNED_IN),
    Row("GET", "/mail/messages", "project", READERS, query=_project, states=("live",)),
    Row("GET", _MAIL, "email", READERS, states=("live",)),
    # What waits in quarantine is for the project's administrators.
    Row("GET", _MAIL, "email", ADMIN, ADMIN, states=("waiting",)),
    *(
        Row(
            method,
            f"{_MAIL}/{path}",
            "email",
            may if sees is READERS else ADMIN,
            sees,
            body,
            fill=_FIRST,
            states=(state,),
        )
        for method, path, may, body in (
            ("GET", "attachments/{number}", READERS, None),
            ("POST", "attach", ADMIN, lambda place: {"package": place.ref("package", "waiting")}),
            ("POST", "dismiss", ADMIN, said(reason="Nothing.")),
            ("POST", "move", ADMIN, said(project=None)),
        )
        for state, sees in (("live", READERS), ("waiting", ADMIN))
    ),
    Row("POST", _ACCEPT, "email", WRITERS, body=said(), fill=_FIRST, states=("live",)),
    Row("POST", _ACCEPT, "email", WRITERS, body=said(), query=_dry, fill=_FIRST, states=("live",)),
    # What waits is attached first.
    Row("POST", _ACCEPT, "email", ADMIN, ADMIN, body=said(), fill=_FIRST, states=("waiting",), hopeless=True),
]

_INVITATION: Final = "/invitations/{invitation_id}"
_KNOW: Final = frozenset({"root", "inspector"})
_INVITATIONS: Final = [
    Row("GET", "/invitations", "", _KNOW, SIGNED_IN),
    Row("POST", "/invitations", "", ROOT, SIGNED_IN, body=said(email="new@example.org", name="New")),
    # Nobody else may know that there is one. Its link says who is to come, and whoever has it is somebody then.
    Row("GET", _INVITATION, "invitation", _KNOW, _KNOW, states=("live", "into"), instance=True),
    Row("POST", f"{_INVITATION}/resend", "invitation", ROOT, _KNOW, states=("live",), instance=True),
    Row("POST", f"{_INVITATION}/revoke", "invitation", ROOT, _KNOW, states=("live",), instance=True),
    Row("POST", "/invitations/accept", "", EVERYBODY, EVERYBODY, body=said(token=1), hopeless=True),
]

ROWS: Final = [
    *(row for one in _COLLECTIONS for row in _rows_of(one)),
    *_PROJECTS,
    *_MEMORIES,
    *_APPROVALS,
    *_AUDIT,
    *_PEOPLE,
    *_INVITATIONS,
    *_JOBS,
    *_HOOKS,
    *_MAILS,
    *_REST,
]
