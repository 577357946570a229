"""The OpenAPI description: made from the models that are enforced, complete with every refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from uuid import UUID

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import models_json_schema

from pmis.approval.models import Approval, RecordDiff
from pmis.kit.errors import MalformedRequestError
from pmis.kit.paging import MAX_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from pmis.approval.resource import Resource

BODIES: Final[dict[str, type[BaseModel]]] = {}
"""Models of request bodies, by the name under which the description lists them."""
PERMISSIONS: Final[dict[tuple[str, str], str]] = {}
"""(method, path) to what the caller needs; a route without an entry does not start."""

UNCOUNTED: Final = frozenset({"/health", "/readiness", "/mail/inbound"})
"""Paths where requests are not counted: what machines ask every few seconds, and what services deliver, signed."""

REFUSALS: Final[dict[int, str]] = {
    400: "The request could not be read: not JSON, a malformed header, a key that is none.",
    401: "Nobody is signed in, or the access token is not good any more.",
    403: "The role does not allow it, or the policy refuses it.",
    404: "It does not exist, or the caller may not know that it does.",
    408: "The body came too slowly.",
    409: "It contradicts the present state; `code` says how. With `Retry-After`: somebody else holds the record.",
    412: "`If-Match` names another version than the present one.",
    413: "The body is larger than what is read here.",
    415: "The body is not `application/json`.",
    422: "The shape or a value is not valid; `errors` lists each problem with a JSON pointer.",
    429: "Too many attempts for the account or the client address (`too_many_attempts`), or too many requests "
    "(`too_many_requests`). Try again after `Retry-After` seconds.",
    503: "The database does not answer; nothing was written. Try again after `Retry-After` seconds.",
}
READ_REFUSALS: Final = (401, 404, 422, 503)
SAY_REFUSALS: Final = (400, 401, 403, 404, 409, 413, 415, 422, 503)
WRITE_REFUSALS: Final = (*SAY_REFUSALS, 412)
"""Of writes to one record, which may say with `If-Match` which version of it they mean."""
HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Correlation-Id": {
        "description": "The request's id in the log: the caller's own, or one that was made.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,100}$"},
        "required": True,
    },
    "ETag": {"description": "The record's version, for `If-Match`.", "schema": {"type": "string"}},
    "Location": {"description": "The record, or the approval that waits.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page, as `rel="next"`; absent on the last.', "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when this answer was given before under the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_REFUSAL_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


class Problem(BaseModel):
    """Problem details (RFC 9457). Refusals add members of their own, such as `allowed`, `missing` or `reasons`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:pmis:problem:transition_refused"])
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, in words that are safe to show.")
    code: str = Field(description="Stable; programs decide by it.", examples=["transition_refused"])
    correlation_id: str = Field(description="Quote it when you report the problem.")
    errors: list[dict[str, Any]] | None = Field(default=None, description="Each field that is wrong.")


class OutcomeReason(BaseModel):
    """A rule of the policy that had its say."""

    rule: str
    text: str
    facts: dict[str, Any]
    changes: list[int] = []


class Outcome(BaseModel):
    """What became of a proposal: applied, waiting for others, or waiting for the proposer's own yes."""

    outcome: Literal["applied", "pending", "confirmation_required"]
    route: str = Field(examples=["APPROVAL_REQUIRED"])
    rule: str = Field(description="The rule that chose the route.", examples=["package.past_draft"])
    score: int
    reasons: list[OutcomeReason]
    approval: Approval | None
    resource: dict[str, Any] | None = Field(description="The record as it is now, when the change was applied.")


class Judged(BaseModel):
    """What the policy says of a change."""

    route: str
    impact: str
    uncertainty: str
    score: int
    rule: str
    reasons: list[OutcomeReason]
    facts: dict[str, Any]
    steps: list[dict[str, Any]]
    order: str
    expires_hours: int | None
    remind_hours: int | None
    deadline_hours: int | None
    bypass_hours: int | None = Field(
        description="After so many hours of silence executives may fill every step whose turn it is."
    )
    notify_at_once: bool
    step_up: bool
    policy_version: int


class Preview(Judged):
    """What a proposal would come to. Nothing was written."""

    outcome: Literal["preview"]
    diff: list[RecordDiff]
    open_steps: list[dict[str, Any]] = Field(description="Who must agree.")


class EventOut(BaseModel):
    """One event of the log. `payload.changes` holds each field with its value before and after."""

    position: int
    id: UUID
    stream_type: str
    stream_id: UUID
    stream_version: int
    project_id: UUID | None
    type: str
    schema_version: int
    actor: str
    actor_name: str
    on_behalf_of: str | None
    on_behalf_of_name: str | None
    source: str
    correlation_id: str
    causation_id: UUID | None
    occurred_at: str
    previous_hash: str
    content_hash: str
    payload: dict[str, Any]


class EventPage(BaseModel):
    """Events, the newest first."""

    items: list[EventOut]
    next: str | None


class Step(BaseModel):
    """A step that the life cycle allows from here."""

    status: str
    step: str
    needs: list[str]
    missing: list[str]
    """What of that the record does not have yet; a reason comes with the proposal."""
    you_may_propose: bool


class Steps(BaseModel):
    """Where a record stands and where it can go."""

    status: str
    next: list[Step]


@dataclass(frozen=True)
class Spec:
    """How a route is described."""

    summary: str
    permission: str
    ok: dict[int, Any]
    refusals: tuple[int, ...]
    description: str = ""
    parameters: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    body: type[BaseModel] | None = None
    body_required: bool = True
    operation_id: str = ""
    headers: tuple[str, ...] = ()
    """What answers carry beside the correlation id."""
    files: dict[str, Any] | None = None
    """For a body that is a file: what it is by each media type."""


def query(name: str, description: str, example: Any = None, schema: dict[str, Any] | None = None) -> dict[str, Any]:  # noqa: ANN401
    """A query parameter of the description."""
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema or {"type": "string"},
        **({} if example is None else {"example": example}),
    }


CURSOR: Final = query("cursor", "Where the page begins: `next` of the page before, or its `Link` header.")
LIMIT: Final = query(
    "limit", "How many at most.", 50, {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}
)
PROJECT: Final = query("project", "Only this project, by id or prefix.", "P")
DRY_RUN: Final = query(
    "dry_run",
    "`true` shows the difference, the route and who must agree, and writes nothing.",
    schema={"type": "boolean", "default": False},
)
KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeat the same request under the same key and get the same answer, with one effect.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "0197c0de-5d0e-7b1c-9d3f-3f1a7c0b9a11",
}
IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the record as it was read; another version answers 412.",
    "schema": {"type": "string", "pattern": '^("[0-9]{1,9}"|\\*)$'},
    "example": '"3"',
}


def require_json(request: Request) -> None:
    """Raise UnsupportedMediaError for a body that says it is something else than JSON."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if kind not in ("application/json", "") and has_body:
        raise UnsupportedMediaError("Send the body as application/json.")


class UnsupportedMediaError(MalformedRequestError):
    """The body is not JSON."""

    code = "unsupported_media_type"
    status = 415
    title = "Only JSON is read here"


class DirectRoute(APIRoute):
    """A route whose endpoint reads the request itself; nothing is solved or validated on the way to it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Call the endpoint with the request and the texts in its path."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            return await endpoint(request, **request.path_params)

        return handle


class RouteTable:
    """The routes of one part of the API, in order; they are added flat, as each nested router costs every request."""

    def __init__(self, tag: str) -> None:
        """An empty table, whose routes are described under the tag."""
        self._tag = tag
        self._routes: list[tuple[str, Any, dict[str, Any]]] = []

    def add(self, path: str, endpoint: Any, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own options
        """Put a route at the end."""
        self._routes.append((path, endpoint, options))

    def add_to(self, app: FastAPI, prefix: str, *, described: bool) -> None:
        """Serve the routes under a prefix; only one prefix is described."""
        for path, endpoint, options in self._routes:
            app.router.add_api_route(
                prefix + path,
                endpoint,
                include_in_schema=described,
                tags=[self._tag],
                route_class_override=DirectRoute,
                **options,
            )


_CARRIED: Final = {"Location": (201, 202, 303), "ETag": (200, 201, 304)}


def _headers(*names: str) -> dict[str, Any]:
    return {name: HEADERS[name] for name in ("X-Correlation-Id", *names)}


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """A body that the model takes: every field that says what it looks like."""
    found: dict[str, Any] = {}
    for name, item in model.model_fields.items():
        if item.examples:
            found[name] = item.examples[0]
        elif item.is_required():
            message = f"{model.__name__}.{name} is required and has no example"
            raise TypeError(message)
    return found


def route(router: RouteTable, method: str, path: str, endpoint: Any, spec: Spec) -> None:  # noqa: ANN401 - any endpoint
    """Add a route with its description and its permission."""
    extra: dict[str, Any] = {}
    parameters = list(spec.parameters)
    unsafe = method not in ("GET", "HEAD")
    if unsafe:
        parameters.append(KEY)
    if parameters:
        extra["parameters"] = parameters
    if spec.body is not None:
        BODIES[spec.body.__name__] = spec.body
        extra["requestBody"] = {
            "required": spec.body_required,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{spec.body.__name__}"},
                    "example": example_of(spec.body),
                }
            },
        }
    if spec.files is not None:
        extra["requestBody"] = {"required": True, "content": spec.files}
    responses: dict[int | str, dict[str, Any]] = {
        status: {
            "description": REFUSALS[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            "headers": _headers(*_REFUSAL_HEADERS.get(status, ())),
        }
        for status in sorted({*spec.refusals, *(() if path in UNCOUNTED else (429,))})
    }
    first = min(spec.ok)
    for status, model in spec.ok.items():
        words = {
            200: "Done.",
            201: "Created.",
            202: "Recorded; it waits for a decision.",
            303: "Go there.",
            304: "Not changed.",
        }
        names = [name for name in spec.headers if status in _CARRIED.get(name, (status,))]
        entry: dict[str, Any] = {
            "description": words.get(status, "Done."),
            "headers": _headers(*names, *(["Idempotency-Replayed"] if unsafe else [])),
        }
        if isinstance(model, dict):
            entry |= model
        elif model is not None:
            entry["model"] = model
        responses[status] = entry
    router.add(
        path,
        endpoint,
        methods=[method],
        summary=spec.summary,
        description=spec.description or None,
        status_code=first,
        responses=responses,
        response_model=None,
        openapi_extra=extra or None,
        operation_id=spec.operation_id or endpoint.__name__,
    )
    PERMISSIONS[(method, path)] = spec.permission


@lru_cache
def page_of(model: type[BaseModel], label: str) -> type[BaseModel]:
    """The model of a page of such records."""
    name = "".join(word.title() for word in label.split()) + "Page"
    items: Any = cast("Any", list)[model]
    return create_model(name, items=(items, ...), next=(str | None, ...), __doc__=f"A page of {label} records.")


def _output(resource: Resource) -> type[BaseModel]:
    return resource.output or resource.noun.model


def _plural(resource: Resource) -> str:
    return resource.path.replace("-", "_")


def _single(resource: Resource) -> str:
    return resource.path.removesuffix("s") if resource.fixed else resource.noun.stream_type


def of_list(resource: Resource) -> Spec:
    """The description of a list."""
    listing = resource.listing
    orders = sorted(listing.orders)
    parameters = [query(name, item.description, item.example) for name, item in listing.filters.items()]
    parameters += [
        query(
            "sort",
            "The order; a leading minus turns it round. Records without a value in it are left out.",
            listing.default_order,
            {"type": "string", "enum": [sign + order for order in orders for sign in ("", "-")]},
        ),
        CURSOR,
        LIMIT,
        PROJECT,
        query("deleted", "`true` includes deleted records.", schema={"type": "boolean", "default": False}),
    ]
    return Spec(
        f"List {resource.path}",
        "read",
        {200: page_of(_output(resource), resource.path.removesuffix("s") if resource.fixed else resource.label)},
        READ_REFUSALS,
        parameters=parameters,
        operation_id=f"list_{_plural(resource)}",
        headers=("Link",),
    )


def of_get(resource: Resource) -> Spec:
    """The description of one record's reading."""
    return Spec(
        f"Read one {resource.label}",
        "read",
        {200: _output(resource), 304: None},
        READ_REFUSALS,
        description="`as_of` shows the record as it stood at that moment.",
        operation_id=f"get_{_single(resource)}",
        headers=("ETag",),
        parameters=[
            query(
                "as_of",
                "A time with its zone (ISO 8601).",
                "2026-11-30T12:00:00Z",
                {"type": "string", "format": "date-time"},
            )
        ],
    )


def of_timeline(resource: Resource) -> Spec:
    """The description of a timeline."""
    return Spec(
        f"The whole life of a {resource.label}",
        "read",
        {200: EventPage},
        READ_REFUSALS,
        description="Every event of the record and of what belongs to it, the newest first, values before and after.",
        parameters=[CURSOR, LIMIT],
        operation_id=f"get_{_single(resource)}_timeline",
        headers=("Link",),
    )


def of_steps(resource: Resource) -> Spec:
    """The description of the next steps."""
    return Spec(
        f"Where a {resource.label} can go from here",
        "read",
        {200: Steps},
        READ_REFUSALS,
        operation_id=f"list_{_single(resource)}_steps",
    )


_WRITES: Final = {
    "create": "propose_{}",
    "patch": "propose_{}_change",
    "transition": "propose_{}_step",
    "delete": "propose_{}_deletion",
    "restore": "propose_{}_restoration",
}


def of_write(resource: Resource, operation: str) -> Spec:
    """The description of a proposal."""
    from pmis.approval.governed import Proposed  # noqa: PLC0415

    noun = resource.noun
    bodies: dict[str, type[BaseModel]] = {
        "create": noun.create_input,
        "patch": noun.patch_input,
        "transition": noun.transition_input,
    }
    words = {
        "create": f"Propose a new {resource.label}",
        "patch": f"Propose a change of a {resource.label}",
        "transition": f"Propose a step of a {resource.label}",
        "delete": f"Propose to delete a {resource.label}",
        "restore": f"Propose to restore a {resource.label}",
    }
    return Spec(
        words[operation],
        "propose",
        {200: {"model": Preview, "description": "A preview (`dry_run`)."}, 201: Outcome, 202: Outcome}
        if operation == "create"
        else {200: Outcome | Preview, 202: Outcome},
        SAY_REFUSALS if operation == "create" else WRITE_REFUSALS,
        operation_id=_WRITES[operation].format(_single(resource)),
        headers=("ETag", "Location"),
        description="The policy decides whether it is applied at once (200, 201) or waits for others (202).",
        parameters=[DRY_RUN] if operation == "create" else [DRY_RUN, IF_MATCH],
        body=bodies.get(operation, Proposed),
        body_required=operation in bodies,
    )


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description, with the bodies' models and one security scheme."""
    from fastapi.openapi.utils import get_openapi  # noqa: PLC0415

    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    _, bodies = models_json_schema(
        [(model, "validation") for model in [*BODIES.values(), Problem]], ref_template="#/components/schemas/{model}"
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, body in bodies.get("$defs", {}).items():
        schemas.setdefault(name, body)
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    schema["security"] = [{"bearer": []}]
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            operation["x-permission"] = PERMISSIONS.get((method.upper(), path.removeprefix("/api/v1")), "")
            if operation["x-permission"] == "public":
                operation["security"] = []
            operation.get("responses", {}).pop("422", None) if not _declares_422(operation) else None
    return schema


def _declares_422(operation: dict[str, Any]) -> bool:
    content = operation.get("responses", {}).get("422", {}).get("content", {})
    return "application/problem+json" in content
