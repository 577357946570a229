"""`/customers` and `/vendors` are parties of that kind, and show no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.expect import applied, ok, problem

if TYPE_CHECKING:
    from tests.api.office import Office

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("customer", {"customers"}), ("vendor", {"vendors"}), ("both", {"customers", "vendors"})],
)
async def test_each_path_shows_its_kind(office: Office, kind: str, shown: set[str]):
    party = applied(await office.post("operator", "/parties", {"name": f"A {kind}", "kind": kind}), 201)
    for path in ("customers", "vendors"):
        for suffix in ("", "/timeline"):
            answer = await office.get("viewer", f"/{path}/{party['id']}{suffix}")
            if path in shown:
                ok(answer)
            else:
                problem(answer, 404, "not_found")
        listed = {one["id"] for one in ok(await office.get("viewer", f"/{path}?limit=200"))["items"]}
        assert (party["id"] in listed) == (path in shown)
