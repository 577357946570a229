"""What one is told, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmis.approval.models import Approval
from pmis.kit.db import in_transaction
from pmis.notify.spread import tell_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmis.kit.db import WriteSession
    from tests.cli.conftest import LiveApi, Ran

    Pmis = Callable[..., Ran]


def test_it_is_listed_read_and_mailed_as_one_says(pmis: Pmis, signed_in: LiveApi, make_package: Callable[..., str]):
    code = make_package("Told", status="submitted")
    said = pmis("package", "propose", code, "--title", "Told so", "--reason", "Because.", "--json", "--as", "analyst")
    approval = said.json["approval"]["id"]

    async def work(session: WriteSession) -> None:
        row = await session.one("select doc from state.approval where id = %s", (approval,))
        assert row is not None
        await tell_of(session, Approval.model_validate_json(row[0]), by_mail=False)

    in_transaction(signed_in.database.app_dsn, work)
    listed = pmis("notification", "list", "--unread", "--as", "admin").out
    line = next(line for line in listed.splitlines() if code in line)
    assert " * " in line
    assert "waiting" in line
    assert pmis("notification", "list", "--as", "viewer").err == "There is nothing you were told.\n"
    fragment = line.split()[0]
    assert pmis("notification", "read", "--up-to", fragment, "--as", "admin").out.endswith("marked as read\n")
    assert code not in pmis("notification", "list", "--unread", "--as", "admin").out
    assert pmis("notification", "read", "--as", "admin").out == "0 marked as read\n"
    assert pmis("notification", "mail", "--as", "admin").out == "mail: hourly\n"
    assert pmis("notification", "mail", "daily", "--as", "admin").out == "mail: daily\n"
    assert pmis("notification", "mail", "--json", "--as", "admin").json == {"mail": "daily"}
    refused = pmis("notification", "mail", "sometimes", "--as", "admin")
    assert (refused.code, "mail:" in refused.err) == (1, True)
