"""What an operation of the OpenAPI document has to say, checked against a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS: Final = frozenset({"get", "put", "post", "patch", "delete", "head", "options", "trace"})
PERMISSIONS: Final = frozenset(
    {
        "public",
        "signed in",
        "read",
        "propose",
        "confirm",
        "decide",
        "configure",
        "administer",
        "read_audit",
        "export",
        "verify",
    }
)
PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield method.upper(), path, item[method]


def gaps(document: dict[str, Any]) -> list[str]:
    """Everything that an operation leaves unsaid."""
    found: list[str] = []
    seen: set[str] = set()
    for method, path, operation in operations(document):
        said = list(_gaps(document, operation))
        name = operation.get("operationId", "")
        if not name.isidentifier() or name in seen:
            said.append(f"operation id {name!r} is none, or that of another operation too")
        seen.add(name)
        found += [f"{method} {path}: {one}" for one in said]
    return found


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """Judges values by a schema of the document."""
    return Draft202012Validator(
        {**schema, "components": document["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def _gaps(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    if not operation.get("summary", "").strip():
        yield "no summary"
    if not operation.get("tags"):
        yield "no tag"
    if operation.get("x-permission") not in PERMISSIONS:
        yield f"permission {operation.get('x-permission')!r}"
    if (operation.get("security") == []) != (operation.get("x-permission") == "public"):
        yield "says another thing about signing in than its permission does"
    yield from _body_gaps(document, operation)
    yield from _parameter_gaps(operation)
    yield from _answer_gaps(operation)


def _body_gaps(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        if "example" not in content:
            yield f"no example of a body of {kind}"
        for error in validator(document, content["schema"]).iter_errors(content.get("example")):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            yield f"the example of {kind} is none: {error.message}"  # pyright: ignore[reportUnknownMemberType]


def _parameter_gaps(operation: dict[str, Any]) -> Iterator[str]:
    for one in operation.get("parameters", []):
        if "schema" not in one:
            yield f"no schema of the parameter {one['name']}"
        if one["in"] != "path" and not one.get("description"):
            yield f"no description of the parameter {one['name']}"


def _answer_gaps(operation: dict[str, Any]) -> Iterator[str]:
    answers: dict[str, Any] = operation["responses"]
    missing = wanted(operation) - answers.keys()
    if missing:
        yield f"does not list {sorted(missing)}"
    if not any(status.startswith("2") for status in answers) and "Location" not in answers.get("303", {}).get(
        "headers", {}
    ):
        yield "no answer that says yes"
    for status, answer in answers.items():
        if not answer.get("description"):
            yield f"no description of {status}"
        if "X-Correlation-Id" not in answer.get("headers", {}):
            yield f"{status} does not say its correlation id"
        public = operation.get("x-permission") == "public"
        if int(status) >= 400 and answer.get("content") != PROBLEM and not (public and status == "503"):
            yield f"{status} is no problem document"
        if status in ("200", "201", "202") and not any("schema" in one for one in answer.get("content", {}).values()):
            yield f"{status} has no schema"


def wanted(operation: dict[str, Any]) -> set[str]:
    """The refusals that an operation with these parts can answer, and so has to list."""
    named = {(one["in"], one["name"]) for one in operation.get("parameters", [])}
    kinds = {place for place, _ in named}
    found: set[str] = set()
    if operation.get("x-permission") != "public":
        # No token; a parameter that there is not; no database.
        found |= {"401", "422", "503"}
    if operation.get("x-permission") not in ("public", "signed in", "read"):
        found |= {"403"}
    if "path" in kinds or ("query", "project") in named:
        found |= {"404"}
    if ("header", "Idempotency-Key") in named:
        # A key that is none.
        found |= {"400"}
    if "requestBody" in operation:
        found |= {"400", "413", "415", "422"}
    if operation.get("x-permission") in ("propose", "confirm", "decide", "administer"):
        # A key in use for another request; a record in another state.
        found |= {"409"}
    if ("header", "If-Match") in named:
        found |= {"412"}
    return found
