"""Webhooks on the command line: made, shown once, changed, pinged, told again, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import LiveApi, Ran

ADMIN = ("--as", "admin")


def test_from_beginning_to_end(pmis: Callable[..., Ran], live_api: LiveApi):
    made = pmis("webhook", "create", "https://hooks.example.org/cli", "--project", "P", "--type", "package.*", *ADMIN)
    assert made.code == 0, made
    assert made.out.startswith("whsec_")
    assert "is not shown again" in made.err
    listed = pmis("webhook", "list", "--project", "P", *ADMIN)
    line = next(one for one in listed.out.splitlines() if "hooks.example.org" in one)
    hook = line.split()[0]
    assert line.split()[-1] == "on"
    assert made.out.strip() not in listed.out
    assert pmis("webhook", "list", "--as", "operator").err == "There are no webhooks that you may see.\n"
    assert pmis("webhook", "show", hook, "--as", "operator").code == 1
    changed = pmis("webhook", "edit", hook, "--description", "The warehouse", "--type", "task.*", *ADMIN)
    assert "The warehouse" in changed.out
    assert "task.*" in pmis("webhook", "show", hook, *ADMIN).out
    nothing = pmis("webhook", "edit", hook, *ADMIN)
    assert (nothing.code, "Say what is to be different" in nothing.err) == (1, True)
    other = pmis("webhook", "secret", hook, "--overlap", "2", *ADMIN)
    assert other.out.startswith("whsec_")
    assert other.out != made.out
    assert "signs until" in pmis("webhook", "show", hook, *ADMIN).out
    assert "off (person)" in pmis("webhook", "disable", hook, *ADMIN).out
    refused = pmis("webhook", "ping", hook, *ADMIN)
    assert (refused.code, "switched off" in refused.err) == (1, True)
    assert pmis("webhook", "enable", hook, *ADMIN).code == 0
    pinged = pmis("webhook", "ping", hook, *ADMIN)
    told = pinged.out.split()[0]
    assert pinged.out == f"{told} is on its way.\n"
    deliveries = pmis("webhook", "deliveries", hook, *ADMIN)
    assert "webhook.ping" in deliveries.out
    assert "waiting" in deliveries.out
    under_way = pmis("webhook", "redeliver", hook, told, *ADMIN)
    assert (under_way.code, "not ended" in under_way.err) == (1, True)
    with psycopg.connect(live_api.database.app_dsn, autocommit=True) as connection:
        connection.execute("update webhook.delivery set status = 'delivered', answer = 204")
    again = pmis("webhook", "redeliver", hook, told, *ADMIN)
    assert (again.code, again.out) == (0, f"{told} is on its way again.\n"), again
    gone = pmis("webhook", "delete", hook, *ADMIN)
    assert gone.out == f"{hook} is deleted.\n"
    assert pmis("webhook", "show", hook, *ADMIN).code == 1
