"""The kinds of job there are: what each takes, and what does it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pmis.kit.canonical import canonical
from pmis.kit.db import Reach
from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from uuid import UUID

    from pmis.kit.clock import Clock
    from pmis.kit.db import Database, WriteSession
    from pmis.kit.settings import Settings
    from pmis.ledger.vault import Vault


class Payload(BaseModel):
    """What a kind of job takes. Fields of a later version are let be, so that old workers outlive a deployment."""

    model_config = ConfigDict(frozen=True, extra="ignore")


P = TypeVar("P", bound=Payload)


class GiveUpError(PmisError):
    """The job cannot succeed however often it is tried: it becomes a dead letter at once."""

    code = "job_given_up"
    title = "The job cannot be done"


class AttemptOverError(PmisError):
    """Another worker may have this job by now; whatever this attempt was about to change is taken back."""

    code = "attempt_over"
    title = "This attempt is over"


@dataclass(frozen=True)
class Job:
    """A job as one attempt sees it."""

    id: UUID
    kind: str
    project_id: UUID | None
    acting: str | None
    correlation_id: str
    event_id: UUID | None
    attempt: int
    due_at: datetime
    created_at: datetime


class Tools:
    """What every job in a process works with."""

    def __init__(self, settings: Settings, database: Database, vault: Vault, clock: Clock) -> None:
        """The process's own parts."""
        self.settings = settings
        self.database = database
        self.vault = vault
        self.clock = clock


class Work(Tools):
    """One attempt at one job: what it works with, how it tells how far it is, and how it ends."""

    def __init__(self, tools: Tools, job: Job) -> None:
        """An attempt that holds the job's lease."""
        super().__init__(tools.settings, tools.database, tools.vault, tools.clock)
        self.job = job
        self.is_finished = False
        self.is_put_off = False

    def write(self) -> AbstractAsyncContextManager[WriteSession]:
        """A transaction of the application; the handler commits it. For effects that a key of their own makes once."""
        return self.database.write(Reach.INSTANCE)

    def finish(self, session: WriteSession, result: Mapping[str, Any] | None = None) -> None:
        """End the job in the transaction of its effect, so that both happen or neither.

        When this attempt is over the commit fails, and takes the effect back. To be called before the last commit.
        """
        text = None if result is None else canonical(dict(result))
        session.defer("select jobs.finish(%s, %s, %s)", (self.job.id, self.job.attempt, text))
        self.is_finished = True

    def put_off(self, session: WriteSession, until: datetime) -> None:
        """Have the job done at another time; this attempt was none. Otherwise as `finish`, and instead of it."""
        session.defer("select jobs.put_off(%s, %s, %s)", (self.job.id, self.job.attempt, until))
        self.is_finished = self.is_put_off = True

    async def tell(self, done: int, total: int | None = None, text: str = "") -> None:
        """Say how far it is, for whoever watches; raises AttemptOverError when nobody waits for this attempt."""
        progress = {"done": done, "total": total, "text": text}
        async with self.database.read(Reach.INSTANCE) as session:
            row = await session.one(
                "select jobs.tell(%s, %s, %s)", (self.job.id, self.job.attempt, json.dumps(progress))
            )
        if row is None or not row[0]:
            raise AttemptOverError(f"Attempt {self.job.attempt} of job {self.job.id} is over.")


Handler: TypeAlias = "Callable[[P, Work], Awaitable[Mapping[str, Any] | None]]"


@dataclass(frozen=True)
class Kind(Generic[P]):
    """A kind of job. `run` may be called any number of times for the same job and takes effect once."""

    name: str
    payload: type[P]
    run: Handler[P]

    def parse(self, text: str) -> P:
        """The payload in a JSON text; raises GiveUpError, as it will be no better next time."""
        try:
            return self.payload.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise GiveUpError(f"The payload of this {self.name} job is not valid: {where}: {first['msg']}.") from None


KINDS: Final[dict[str, Kind[Any]]] = {}
"""Every kind that this process knows; `pmis.work` fills it."""


def job(name: str, payload: type[P]) -> Callable[[Handler[P]], Handler[P]]:
    """Declare a function as what does jobs of a kind. What it returns is the job's result."""

    def declare(run: Handler[P]) -> Handler[P]:
        if name in KINDS:
            message = f"two functions do jobs of kind {name}"
            raise ValueError(message)
        KINDS[name] = Kind(name, payload, run)
        return run

    return declare
