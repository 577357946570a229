"""The API's description as the web app's client is made from: names and types, without the words about them."""

from __future__ import annotations

import json
import sys
from typing import Any, Final, cast

from pmis.api.app import create_app
from pmis.kit.settings import load_settings

_JSON: Final = ("application/json",)
_WORDS: Final = frozenset({"title", "description", "examples", "example", "default", "propertyNames"})
_METHODS: Final = ("get", "post", "patch", "put", "delete")


def description() -> str:
    """What the client is made from, as the text of a file: the same for the same API."""
    # Nothing is connected to: the application only says what it is.
    settings = load_settings(embedded=False, database_url="postgresql://nobody@localhost/none")
    whole = create_app(settings).openapi()
    paths = {
        path: {method: _operation(operations[method]) for method in _METHODS if method in operations}
        for path, operations in whole["paths"].items()
    }
    schemas = {name: _bare(schema) for name, schema in whole["components"]["schemas"].items()}
    slim = {
        "openapi": whole["openapi"],
        "info": {"title": whole["info"]["title"], "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return json.dumps(slim, indent=1, sort_keys=True) + "\n"


def _operation(whole: dict[str, Any]) -> dict[str, Any]:
    slim: dict[str, Any] = {"operationId": whole["operationId"], "responses": {}}
    if whole.get("parameters"):
        slim["parameters"] = [
            {
                "name": one["name"],
                "in": one["in"],
                "required": one.get("required", False),
                "schema": _bare(one["schema"]),
            }
            for one in whole["parameters"]
        ]
    if body := whole.get("requestBody"):
        slim["requestBody"] = {"required": body.get("required", False), "content": _content(body["content"])}
    for status, response in whole["responses"].items():
        if status.startswith("2"):
            content = _content(response.get("content", {}))
            slim["responses"][status] = {"description": "", **({"content": content} if content else {})}
    return slim


def _content(given: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": _bare(one.get("schema", {}))} for kind, one in given.items() if kind in _JSON}


def _bare(schema: Any, *, names: bool = False) -> Any:  # noqa: ANN401 - JSON
    """The schema without words; where its keys are the `names` of fields all of them stay."""
    if isinstance(schema, list):
        return [_bare(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _bare(value, names=key == "properties" and not names)
        for key, value in cast("dict[str, Any]", schema).items()
        if names or key not in _WORDS
    }


if __name__ == "__main__":
    sys.stdout.write(description())
