"""T7: answers are lost, connections reset, links fall silent or trickle, on both sides of the API. R6, R19."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from pmis.ops import postgres as pg
from tests.faults.client import PACKAGE, Client, Writes
from tests.faults.proxy import Proxy
from tests.faults.size import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.system import System

pytestmark = pytest.mark.slow
WRITES: Final = 1_000 if WHOLE else 60
CLIENTS: Final = 8 if WHOLE else 4
SEED: Final = 7
BEFORE_THE_API: Final = {"lose": 0.42, "silent": 0.02, "slow": 0.05, "cut": 0.05}
BEFORE_POSTGRES: Final = {"lose": 0.01, "silent": 0.002, "slow": 0.01, "cut": 0.005}


def test_each_write_takes_effect_once_though_its_answers_are_lost(
    make_system: Callable[..., System], figure: Callable[[str], None]
) -> None:
    system = make_system()
    system.start_postgres()
    token_of, package = system.client, system.one(PACKAGE)
    with Proxy(system.postgres.port, BEFORE_POSTGRES, seed=SEED) as inner, Proxy(system.api_port, seed=SEED) as outer:
        address = system.postgres.tcp_url(pg.APP).replace(f":{system.postgres.port}/", f":{inner.port}/")
        inner_faults, inner.faults = inner.faults, {}
        system.settings["DATABASE_URL"] = address
        system.start_api()
        token = token_of().sign_in()
        inner.faults, outer.faults = inner_faults, BEFORE_THE_API
        writes = Writes(outer.port, token, package, "t7", patience=8)
        writes.begin(CLIENTS, most=WRITES)
        writes.wait(600)
        assert not writes.wrong, writes.wrong[:3]
        lost = outer.happened.get("lose", 0) + outer.happened.get("silent", 0)
        asked = writes.lost + len(writes.acked) + sum(writes.refused.values())
        # Nothing of it stays behind: the API answers as before.
        inner.faults = outer.faults = {}
        assert Client(outer.port, patience=15).status("/readiness") == 200
    missing, extra = writes.account(system.all)
    assert (missing, extra) == (set(), {})
    assert len(writes.acked) == WRITES
    events = system.one(
        "select count(*) from ledger.event where type = 'comment.created' and stream_id in "
        "(select id from state.comment where starts_with(doc::jsonb ->> 'body', 't7-'))"
    )
    assert events == WRITES
    del system.settings["DATABASE_URL"]
    if WHOLE:
        assert lost >= 0.4 * asked
        assert set(inner.happened) == set(BEFORE_POSTGRES)
    assert system.differences() == ""
    figure(
        f"T7 (seed {SEED}): {WRITES} writes by {CLIENTS} clients in {asked} requests; {lost} answers lost "
        f"({lost / asked:.0%}, bar 40 %), {_told(outer)} before the API, {_told(inner)} before PostgreSQL; "
        f"effects == writes, {sum(writes.refused.values())} refusals tried again"
    )


def _told(proxy: Proxy) -> str:
    return " ".join(f"{name} {count}" for name, count in sorted(proxy.happened.items())) or "no fault"


def test_control_without_a_key_a_lost_answer_doubles(make_system: Callable[..., System]) -> None:
    """A client that sends a write again under another key: the account sees the second effect."""
    system = make_system()
    system.start_postgres()
    system.start_api()
    client = system.client()
    client.sign_in()
    writes = Writes(system.api_port, "", system.one(PACKAGE), "again")
    for key in ("first", "second"):
        body = f'{{"entity_type":"package","entity_id":"{writes.package}","body":"again-1"}}'.encode()
        answer = client.ask("POST", "/comments", body, Idempotency_Key=f"{key}-0123456789")
        assert answer.status == 201, answer.body
        writes.acked["again-1"] = answer.json["resource"]["id"]
    client.close()
    assert writes.account(system.all) == (set(), {"again-1": 2})
