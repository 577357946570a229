"""The OpenAPI document says of every operation what it is, who may, what goes in, and everything that can come out."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel, Field

from pmis.api import docs
from tests.api.description import gaps, operations
from tests.api.office import keep_nothing

if TYPE_CHECKING:
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


@pytest.fixture
def document(office: Office) -> dict[str, Any]:
    return copy.deepcopy(office.app.openapi())


async def test_every_operation_says_everything(document):
    assert not gaps(document), "\n".join(gaps(document))


async def test_every_route_is_described(document):
    assert {(method, path.removeprefix("/api/v1")) for method, path, _ in operations(document)} == set(docs.PERMISSIONS)


async def test_the_permission_of_each_is_that_which_is_declared(document):
    for method, path, operation in operations(document):
        assert operation["x-permission"] == docs.PERMISSIONS[(method, path.removeprefix("/api/v1"))]


async def test_every_model_of_a_body_says_what_its_fields_look_like(document):
    schemas = document["components"]["schemas"]
    for name in docs.BODIES:
        for field in schemas[name].get("required", []):
            told = schemas[name]["properties"][field]
            assert "examples" in told or "$ref" in told, f"{name}.{field}"


async def test_the_example_of_every_body_is_read(furnished: Office, document, monkeypatch: pytest.MonkeyPatch):
    """It may name what does not exist or must wait; it is never malformed."""
    keep_nothing(monkeypatch)
    ids = furnished.records["a"].ids
    read = 0
    for method, path, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            first = path.removeprefix("/api/v1/").partition("/")[0]
            noun = {"people": "person", "parties": "party", "mail": "email", "memories": "memory"}.get(
                first, first.removesuffix("s").replace("-", "_")
            )
            state = "viewer" if noun == "person" else "deleted" if path.endswith("/restore") else "live"
            said = re.sub(r"\{\w+\}", lambda _, noun=noun, state=state: str(ids[noun][state]), path)
            example = content["example"]
            who = "root" if operation["x-permission"] == "administer" or path.endswith("/projects") else "admin"
            sent = {"content": example.encode(), "headers": {"Content-Type": kind}} if isinstance(example, str) else {}
            json = None if isinstance(example, str) else example
            if first == "imports":
                said += f"?dry_run=true&project={furnished.a.prefix}"
            answer = await furnished.call(who, method, said, json, base="", **sent)
            read += 1
            malformed = answer.status_code in (400, 413, 415, 422)
            assert not malformed, f"{method} {path} {kind}: {answer.text}"
            assert str(answer.status_code) in operation["responses"], f"{method} {path}: {answer.text}"
    assert read >= len(docs.BODIES)


class TestPlanted:
    """The controls: what is left out is missed, and a route that says nothing does not start."""

    PATH: ClassVar = "/api/v1/packages/{reference}"

    @pytest.mark.parametrize("part", ["summary", "x-permission", "tags", "operationId"])
    async def test_a_part_that_is_missing(self, document, part):
        del document["paths"][self.PATH]["patch"][part]
        assert any(self.PATH in one for one in gaps(document))

    @pytest.mark.parametrize("status", ["400", "401", "403", "404", "409", "412", "413", "415", "422", "503"])
    async def test_a_refusal_that_is_not_listed(self, document, status):
        del document["paths"][self.PATH]["patch"]["responses"][status]
        assert gaps(document) == [f"PATCH {self.PATH}: does not list ['{status}']"]

    async def test_a_body_without_an_example(self, document):
        del document["paths"][self.PATH]["patch"]["requestBody"]["content"]["application/json"]["example"]
        assert any("no example" in one for one in gaps(document))

    async def test_an_example_that_the_body_does_not_take(self, document):
        content = document["paths"]["/api/v1/packages"]["post"]["requestBody"]["content"]["application/json"]
        content["example"]["amount"] = 1.5
        assert any("is none" in one for one in gaps(document))

    async def test_a_refusal_that_is_no_problem(self, document):
        document["paths"][self.PATH]["get"]["responses"]["404"]["content"] = {"text/plain": {}}
        assert gaps(document) == [f"GET {self.PATH}: 404 is no problem document"]

    async def test_an_answer_without_a_schema(self, document):
        document["paths"][self.PATH]["get"]["responses"]["200"]["content"] = {"application/json": {}}
        assert gaps(document) == [f"GET {self.PATH}: 200 has no schema"]

    async def test_two_of_one_name(self, document):
        document["paths"][self.PATH]["get"]["operationId"] = "list_packages"
        assert any("another operation" in one for one in gaps(document))

    async def test_a_required_field_without_an_example_does_not_start(self):
        class Bare(BaseModel):
            told: str = Field(examples=["x"])
            bare: str

        with pytest.raises(TypeError, match=r"Bare\.bare is required and has no example"):
            docs.example_of(Bare)
