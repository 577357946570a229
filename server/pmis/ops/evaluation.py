"""The evaluation of the assistant: an instance of its own, its world loaded over HTTP, every utterance a message."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import psycopg

from pmis.assistant.evaluation import Score, load_utterances, load_world
from pmis.kit.db import in_transaction
from pmis.kit.errors import UnavailableError
from pmis.kit.settings import load_settings
from pmis.ops import postgres as pg
from pmis.ops.console import Console, vault_of
from pmis.ops.migrate import upgrade_database

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import httpx2

    from pmis.assistant.evaluation import Utterance, World
    from pmis.kit.db import WriteSession
    from pmis.kit.settings import Settings

_NAME: Final = "pmis_evaluation"
_PASSWORD: Final = "the evaluation's own people"  # noqa: S105 - of an instance that nobody else reaches
_PATIENCE_SECONDS: Final = 60
_OK: Final = 300
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def evaluate(progress: Callable[[int, int], None], *, only: Sequence[str] = ()) -> Score:
    """Say every utterance (or those of some classes) to the assistant, and count what comes of it.

    Every proposal is made with the highest impact, so that none is applied and the world stays as it is.
    """
    import asyncio  # noqa: PLC0415 - beside what needs it

    import httpx2  # noqa: PLC0415 - loads slowly

    world, utterances = load_world(), load_utterances()
    utterances = [one for one in utterances if not only or one.kind in only]
    with _served(world) as url, httpx2.Client(base_url=f"{url}/api/v1", timeout=60) as client:
        people = {key: _signed_in(client, person["email"]) for key, person in world.data["people"].items()}

        async def call(who: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
            answer = client.request(method, path, json=dict(body), headers=people[who])
            if answer.status_code >= _OK and not path.endswith("/approve"):
                raise UnavailableError(f"The world could not be loaded: {method} {path} answered {answer.text[:300]}")
            return answer.json()

        asyncio.run(world.load(call))
        score = Score()
        for number, utterance in enumerate(utterances, 1):
            body = _answer(client, people[world.data["asker"]], utterance)
            score.add(utterance, body, world)
            _take_back(client, people[world.data["asker"]], body)
            progress(number, len(utterances))
        return score


def _answer(client: httpx2.Client, headers: Mapping[str, str], utterance: Utterance) -> dict[str, Any]:
    """The last answer of the conversation, with records named by their ids."""
    body: dict[str, Any] = {}
    for text in (*utterance.before, utterance.text):
        said = {"query": text, "impact_level": "critical"}
        if body:
            said["conversation_id"] = body["conversation_id"]
        answer = client.post("/chat", json=said, headers=dict(headers))
        if answer.status_code >= _OK:
            return {"action_type": f"problem {answer.status_code}", "response": answer.text}
        body = answer.json()
    changes = [{**one, "target": one["target_id"]} for one in body["changes"]]
    return {**body, "changes": changes, "questions": [_plain(one) for one in body["questions"]]}


def _take_back(client: httpx2.Client, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
    """Withdraw what was proposed, so that the next utterance finds the world as it was."""
    for approval in {change["approval_id"] for change in body.get("changes", ()) if change["approval_id"]}:
        answer = client.post(f"/approvals/{approval}/withdraw", json={}, headers=dict(headers))
        if answer.status_code >= _OK:
            raise UnavailableError(f"A proposal could not be withdrawn: {answer.text[:300]}")


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A question with its records by their ids, and its times as Python writes them."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return found["id"] if found.keys() == {"type", "id", "label"} else {k: _plain(v) for k, v in found.items()}
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[Any]", value)]
    return f"{value[:-1]}+00:00" if isinstance(value, str) and _TIME.fullmatch(value) else value


def _signed_in(client: httpx2.Client, email: str) -> dict[str, str]:
    answer = client.post("/auth/login", json={"email": email, "password": _PASSWORD})
    if answer.status_code >= _OK:
        raise UnavailableError(f"Nobody could sign in: {answer.text[:300]}")
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@contextmanager
def _served(world: World) -> Generator[str]:
    """The API on an instance of its own that holds the world's people and projects, with its clock at the world's."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pmis-eval-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server, _, _ = stack.enter_context(pg.temporary(folder))
        with psycopg.connect(server.url(pg.ADMIN, "postgres"), autocommit=True) as connection:
            pg.create_database(connection, _NAME)
        pg.add_extensions(server.url(pg.ADMIN, _NAME))
        upgrade_database(server.url(pg.OWNER, _NAME))
        port = pg.free_port()
        environment = {
            "DATABASE_URL": server.url(pg.APP, _NAME),
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "PMIS_DATA_DIR": str(folder / "data"),
            "PMIS_NOW": world.data["now"],
            "ENVIRONMENT": "test",
            "LOG_LEVEL": "WARNING",
            "ACCESS_TOKEN_MINUTES": "600",
            "ASSISTANT_PROPOSALS_PER_HOUR": "10000",
            "SIGNIN_ADDRESS_ATTEMPTS": "10000",
        }
        _people(load_settings(embedded=False, **{name.lower(): value for name, value in environment.items()}), world)
        command = [sys.executable, "-P", "-m", "pmis.cli.main", "api", "--port", str(port)]
        log = stack.enter_context((folder / "api.log").open("w+"))
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        _wait_for(port, process, folder / "api.log")
        yield f"http://127.0.0.1:{port}"


def _people(settings: Settings, world: World) -> None:
    """Who is there, and what they are in the projects; everything else comes over HTTP."""

    async def work(session: WriteSession) -> None:
        console = Console(session, vault_of(settings), "evaluation", "evaluation")
        for key, project in world.data["projects"].items():
            world.ids[f"project:{key}"] = str((await console.project(**project)).id)
        for key, person in world.data["people"].items():
            made = await console.person(person["name"], person["email"], _PASSWORD)
            world.ids[f"person:{key}"] = str(made.id)
            for project, roles in person["roles"].items():
                await console.member(UUID(world.ids[f"project:{project}"]), made.id, *roles)

    in_transaction(settings.app_dsn, work)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise UnavailableError(f"The API of the evaluation did not start: {log.read_text()[-500:]}")
