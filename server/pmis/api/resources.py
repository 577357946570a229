"""Routes for every noun on the governed path, made from what each says of itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from pmis.api import docs
from pmis.api.context import Call, caller, if_match, require_known_parameters, uuid_or_none
from pmis.api.edge import outcome_answer, write
from pmis.api.events import events_page
from pmis.api.secrets import reveal
from pmis.approval.governed import InProject, Proposed
from pmis.approval.propose import (
    Outcome,
    Wanted,
    active_policy,
    diffs,
    judge,
    locking,
    propose,
    sealed,
    waiting_steps,
)
from pmis.kit.canonical import canonical
from pmis.kit.errors import InvalidInputError, NotFoundError
from pmis.kit.ids import uuid7
from pmis.kit.listing import page
from pmis.kit.paging import MAX_LIMIT, decode_cursor, foreign_cursor
from pmis.ledger.idempotency import Answer
from pmis.ledger.store import entity_as_of
from pmis.policy.access import Action, Principal, allowed
from pmis.policy.approvers import Round
from pmis.policy.lifecycle import GUARDS
from pmis.project.visible import readable_projects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.approval.propose import Request as ProposalRequest
    from pmis.approval.resource import Resource
    from pmis.kit.db import Session, Statement, WriteSession
    from pmis.ledger.vault import Vault

LIST_PARAMETERS: Final = frozenset({"sort", "cursor", "limit", "project", "deleted"})
DEFAULT_LIMIT: Final = 50
_LIMIT: Final = re.compile("[0-9]{1,3}")


async def project_named(session: Session, principal: Principal, name: str) -> UUID:
    """The visible project with this id or prefix; raises NotFoundError."""
    identity = uuid_or_none(name)
    if identity is not None and principal.roles_in(identity):
        return identity  # a member's project is there
    row = None
    if identity is not None or is_code(name):
        column = "prefix" if identity is None else "id"
        row = await session.one(f"select id from state.project where {column} = %s", (identity or name,))
    if row is None or not allowed(principal, Action.READ, row[0]):
        raise NotFoundError("There is no such project.")
    return row[0]


def limit_of(request: Request) -> int:
    """The page size asked for; raises InvalidInputError."""
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInputError(
            f"limit: a whole number from 1 to {MAX_LIMIT}.",
            errors=[{"pointer": "/query/limit", "message": f"1 to {MAX_LIMIT}", "type": "range"}],
        )
    return int(text)


def id_after(request: Request) -> UUID | None:
    """The id at which the page before ended, of a list in the order of ids; raises InvalidInputError."""
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return None
    found = uuid_or_none(str(decode_cursor(cursor, "id", 1)[0]))
    if found is None:
        raise foreign_cursor()
    return found


def is_code(text: str) -> bool:
    """Whether the text could be a code or a prefix at all; PostgreSQL cannot even be asked about some others."""
    return text.isascii() and text.isprintable()


def flag(request: Request, name: str) -> bool:
    """Whether a query parameter says true; raises InvalidInputError for anything but true and false."""
    if not request.scope["query_string"]:
        return False
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidInputError(
            f"{name}: true or false.",
            errors=[{"pointer": f"/query/{name}", "message": "true or false", "type": "bool"}],
        )
    return text == "true"


def moment(text: str, parameter: str) -> datetime:
    """The time in a text, with its zone; raises InvalidInputError."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at
    except ValueError:
        pass
    message = "a time with its zone such as 2026-11-30T12:00:00Z"
    raise InvalidInputError(
        f"{parameter}: {message}.", errors=[{"pointer": f"/query/{parameter}", "message": message, "type": "datetime"}]
    )


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    """The `Link` header (RFC 8288) to the next page, if there is one."""
    if cursor is None:
        return {}
    url = request.url.include_query_params(cursor=cursor)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}


class Routes:
    """The endpoints of one resource."""

    def __init__(self, resource: Resource) -> None:
        """Nothing is routed yet."""
        self.resource = resource
        self.noun = resource.noun
        self.table = resource.noun.stream_type
        self.list_parameters = LIST_PARAMETERS | frozenset(resource.listing.filters)

    async def find(self, session: Session, principal: Principal, reference: str) -> tuple[UUID, str]:
        """The id and document of a visible record; raises NotFoundError, the same for all that is not to be seen."""
        identity = uuid_or_none(reference)
        column = "id" if identity is not None else self.resource.code_column
        row = None
        if column is not None and (identity is not None or is_code(reference)):
            kinds = "".join(f" and {name} = any(%s)" for name in self.resource.fixed)
            row = await session.one(
                f"select id, project_id, doc from state.{self.table} where {column} = %s{kinds}",
                (identity or reference, *(value.split(",") for value in self.resource.fixed.values())),
            )
        if row is None or not allowed(principal, Action.READ, row[1]):
            raise NotFoundError(f"There is no such {self.resource.label}.")
        return row[0], row[2]

    async def list(self, request: Request) -> Response:
        """A page of what the caller may see."""
        call = await caller(request)
        require_known_parameters(request, self.list_parameters)
        given = request.query_params
        limit = limit_of(request)
        filters = {
            **self.resource.fixed,
            **{name: given[name] for name in given if name in self.resource.listing.filters},
        }
        async with call.parts.database.read(call.reach) as session:
            if "project" in given:
                projects = [await project_named(session, call.principal, given["project"])]
            else:
                projects = await readable_projects(session, call.principal)
            found = await page(
                session,
                self.resource.listing,
                projects=projects,
                filters=filters,
                sort=given.get("sort"),
                cursor=given.get("cursor"),
                limit=limit,
                now=call.parts.clock.now(),
                deleted=flag(request, "deleted"),
            )
            if self.noun.secret_fields:
                found = type(found)(await self._revealed(session, call, found.docs), found.next)
        return Response(found.body(), 200, next_link(request, found.next), "application/json")

    async def _revealed(self, session: Session, call: Call, documents: list[str]) -> list[str]:
        return await reveal(session, call.parts.vault, call.principal, documents)

    async def get(self, request: Request, reference: str) -> Response:
        """One record, now or as it stood."""
        call = await caller(request)
        require_known_parameters(request, frozenset({"as_of"}))
        async with call.parts.database.read(call.reach) as session:
            identity, doc = await self.find(session, call.principal, reference)
            if "as_of" in request.query_params:
                at = moment(request.query_params["as_of"], "as_of")
                entity = await entity_as_of(session, self.noun, identity, at)
                if entity is None:
                    raise NotFoundError(f"This {self.resource.label} did not exist at that time.")
                doc = entity.doc
            if self.noun.secret_fields:
                doc = (await self._revealed(session, call, [doc]))[0]
        # Documents begin with id and version, in this order, by the definition of Entity.
        version = doc[doc.index('"version":') + 10 : doc.index(",", doc.index('"version":'))]
        tag = f'"{version}"'
        if request.headers.get("if-none-match") == tag and "as_of" not in request.query_params:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(doc.encode(), 200, {"ETag": tag}, "application/json")

    async def timeline(self, request: Request, reference: str) -> Response:
        """The record's life and that of what belongs to it, the newest first."""
        call = await caller(request)
        require_known_parameters(request, frozenset({"cursor", "limit"}))
        async with call.parts.database.read(call.reach) as session:
            identity, _ = await self.find(session, call.principal, reference)
            body, following = await events_page(
                session,
                call,
                f"stream_id in (select %s::uuid {' '.join('union all ' + query for query in self.resource.related)})",
                [identity] * (1 + len(self.resource.related)),
                cursor=request.query_params.get("cursor"),
                limit=limit_of(request),
            )
        return Response(body, 200, next_link(request, following), "application/json")

    async def steps(self, request: Request, reference: str) -> Response:
        """What the life cycle allows next, and what each step needs."""
        call = await caller(request)
        require_known_parameters(request, frozenset())
        async with call.parts.database.read(call.reach) as session:
            _, doc = await self.find(session, call.principal, reference)
            policy = await active_policy(session)
            record = json.loads(doc)
            lifecycle = policy.lifecycles[self.noun.lifecycle or self.table]
            allowed_next = list(lifecycle.allowed(record["status"]))
            missing = [await self.noun.missing(session, record, step, policy) for step in allowed_next]
        roles = call.principal.roles_in(UUID(record["project_id"]))
        steps = [
            {
                "status": step.to,
                "step": step.name,
                "needs": [GUARDS[guard] for guard in step.guards or ()],
                "missing": lacking,
                "you_may_propose": not roles.isdisjoint(step.roles),
            }
            for step, lacking in zip(allowed_next, missing, strict=True)
        ]
        return Response(canonical({"status": record["status"], "next": steps}), 200, None, "application/json")

    async def create(self, request: Request) -> Response:
        """Propose a new record."""
        call = await caller(request)
        said, preview = await self._said(request, "create")
        wanted = Wanted(self.noun, "create", uuid7(), self.noun.patch_of("create", said), self._named(call, said))

        async def handle(session: WriteSession) -> Answer:
            if wanted.project_id is not None:
                return await self._propose(session, call, said, wanted, preview=preview, created=True)
            found = replace(wanted, project_id=await self._project_for(session, call, said))
            return await self._propose(session, call, said, found, preview=preview, created=True)

        response = await write(call, handle, ahead=self._ahead(call, wanted) if wanted.project_id is not None else ())
        if self.table == "project" and call.principal.person_id is not None:
            # Its founder is in it from now on, not from a second later.
            call.parts.principals.forget(call.principal.person_id)
        return response

    def _ahead(self, call: Call, wanted: Wanted) -> Sequence[Statement]:
        if self._seals:
            return ()
        locks = locking([wanted], call.principal)
        numbers = self.noun.numbering(wanted.project_id) if wanted.operation == "create" else None
        return (locks,) if numbers is None else (locks, numbers)

    @property
    def _seals(self) -> bool:
        """Whether secrets are put into the vault first, for those who may propose them, before anything is locked."""
        return bool(self.noun.secret_fields)

    def _named(self, call: Call, said: Proposed) -> UUID | None:
        """The project that the body names by its id; whether there is one shows under the lock."""
        if self._seals or self.resource.project_of is not None:
            return None
        if not isinstance(said, InProject) or said.project is None:
            return None
        found = uuid_or_none(said.project)
        if found is not None and not allowed(call.principal, Action.READ, found):
            raise NotFoundError("There is no such project.")
        return found

    async def _project_for(self, session: Session, call: Call, said: Proposed) -> UUID | None:
        if self.resource.project_of is not None:
            found = await self.resource.project_of(session, said)
            if found is None or not allowed(call.principal, Action.READ, found):
                raise NotFoundError("What this belongs to does not exist.")
            return found
        if not isinstance(said, InProject):
            return None
        if said.project is not None:
            return await project_named(session, call.principal, said.project)
        mine = await readable_projects(session, call.principal)
        if len(mine) != 1:
            raise InvalidInputError(
                "project: say which project, by id or prefix.",
                errors=[{"pointer": "/project", "message": "required, as you see several or none", "type": "missing"}],
            )
        return mine[0]

    async def change(self, request: Request, reference: str, operation: str) -> Response:
        """Propose a change, a step, a deletion or a restoration."""
        call = await caller(request)
        said, preview = await self._said(request, operation)
        patch, version = self.noun.patch_of(operation, said), if_match(request)
        # A record that is named by its id is looked for, and judged visible, under the lock that the change takes.
        named = uuid_or_none(reference)

        async def handle(session: WriteSession) -> Answer:
            identity = named or (await self.find(session, call.principal, reference))[0]
            wanted = Wanted(self.noun, operation, identity, patch, None, version)
            return await self._propose(session, call, said, wanted, preview=preview)

        ahead = self._ahead(call, Wanted(self.noun, operation, named, patch)) if named else ()
        return await write(call, handle, ahead=ahead)

    async def _said(self, request: Request, operation: str) -> tuple[Proposed, bool]:
        require_known_parameters(request, frozenset({"dry_run"}))
        preview = flag(request, "dry_run")
        docs.require_json(request)
        return self.noun.parse(operation, await request.body()), preview

    async def _propose(
        self, session: WriteSession, call: Call, said: Proposed, wanted: Wanted, *, preview: bool, created: bool = False
    ) -> Answer:
        request = call.proposing(said)
        if preview:
            return await preview_answer(session, call.parts.vault, request, [wanted])
        outcome = await propose(session, call.parts.vault, request, [wanted])
        return answer_of(call, outcome, path=self.resource.path, created=created)

    def router(self) -> docs.RouteTable:
        """The routes, documented."""
        router = docs.RouteTable(self.resource.path)
        base, one = f"/{self.resource.path}", f"/{self.resource.path}/{{reference}}"
        docs.route(router, "GET", base, self.list, docs.of_list(self.resource))
        docs.route(router, "GET", one, self.get, docs.of_get(self.resource))
        docs.route(router, "GET", f"{one}/timeline", self.timeline, docs.of_timeline(self.resource))
        operations = self.resource.operations if not self.resource.fixed else frozenset[str]()
        if "create" in operations:
            docs.route(router, "POST", base, self.create, docs.of_write(self.resource, "create"))
        if self.noun.lifecycle and not self.resource.fixed:
            docs.route(router, "GET", f"{one}/transitions", self.steps, docs.of_steps(self.resource))
        ways = (
            ("patch", "PATCH", one),
            ("transition", "POST", f"{one}/transitions"),
            ("delete", "DELETE", one),
            ("restore", "POST", f"{one}/restore"),
        )
        for operation, method, path in ways:
            if operation in operations:
                docs.route(router, method, path, self._changing(operation), docs.of_write(self.resource, operation))
        return router

    def _changing(self, operation: str) -> Any:  # noqa: ANN401 - an endpoint
        async def endpoint(request: Request, reference: str) -> Response:
            return await self.change(request, reference, operation)

        endpoint.__name__ = f"{operation}_{self.table}"
        return endpoint


def answer_of(call: Call, outcome: Outcome, *, path: str | None, created: bool = False) -> Answer:
    """The answer to a proposal: the record when it was applied, the approval when it waits; the vault is not opened."""
    entity = outcome.entities[0] if outcome.entities else None
    resource = entity.doc if entity else None
    approval = outcome.approval.doc if outcome.approval else None
    base = "/api/v1" if "/api/v1/" in call.request.scope["path"] else "/api"
    location = None
    if outcome.outcome != "applied" and outcome.approval:
        location = f"{base}/approvals/{outcome.approval.id}"
    elif created and entity and path:
        location = f"{base}/{path}/{entity.id}"
    return outcome_answer(outcome, resource=resource, approval=approval, location=location, created=created)


async def preview_answer(session: WriteSession, vault: Vault, request: ProposalRequest, wanted: list[Wanted]) -> Answer:
    """What a proposal would come to; nothing is kept."""
    judged = await judge(session, request, await sealed(session, vault, request, wanted))
    decision = judged.decision
    body = {
        "outcome": "preview",
        **decision.to_json(),
        "diff": [item.model_dump(mode="json") for item in diffs(judged)],
        "open_steps": waiting_steps(
            Round(steps=decision.steps, order=decision.order, at=session.now, proposers=frozenset())
        ),
    }
    project = judged.changes[0].project_id
    shown = await reveal(session, vault, request.principal, [canonical(body)], project=project)
    await session.restart()
    return Answer(200, shown[0].encode(), {}, project)
