"""Imports: the steps of one file as one proposal, all or nothing.

`prepare` reads a file, looks up what is known of it and plans; it holds no transaction, since a large file takes a
while. `preview` and `submit` then judge the plan in one. Between the two the world may move: every change names the
version of its record that the plan saw, and no outside reference is given to two records, so that what no longer fits
is refused as busy and the same file is simply sent again.

The same file twice proposes nothing twice: what is applied leaves nothing to do, and while a proposal waits the very
same changes find it and join it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, cast
from uuid import UUID

from anyio import to_thread

from pmis.approval import decide
from pmis.approval.change import Change
from pmis.approval.propose import Request, Wanted, diffs, judge, propose, sealed
from pmis.approval.registry import NOUNS
from pmis.kit.db import Reach
from pmis.kit.errors import BusyError, ConflictError, ForbiddenError, PmisError, StaleVersionError
from pmis.kit.ids import uuid7
from pmis.ocds.check import ItemError
from pmis.ocds.lookup import any_there, look_up, renamed
from pmis.ocds.mapping import Known, PartyKey, Plan, Step, plan
from pmis.ocds.progress import Progress
from pmis.ocds.reader import read
from pmis.ocds.values import visible
from pmis.ocds.waiting import awaiting, content_digest, holds
from pmis.policy.document import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmis.approval.change import Operation
    from pmis.approval.models import Approval, RecordDiff
    from pmis.approval.propose import Judged, Outcome
    from pmis.kit.db import Database, WriteSession
    from pmis.ledger.vault import Vault
    from pmis.ocds.values import JsonObject
    from pmis.policy.access import Principal

REPORTED: Final = 500
"""How many of the items that are wrong a refusal lists."""
_EVERY: Final = 100
_REFUSALS: Final = frozenset({409, 422})


class ImportRefusedError(PmisError):
    """Something in the file stands against its import; `items` lists what, and where."""

    code = "import_refused"
    status = 422
    title = "The file was not imported"

    def __init__(self, name: str, errors: Sequence[ItemError]) -> None:
        """`name` is what the file is called."""
        more = f" {len(errors) - 1} more of its items are wrong." if len(errors) > 1 else ""
        super().__init__(
            f"{str(errors[0]).rstrip('.')}.{more} Nothing of {name} was imported.",
            items=[item_json(one) for one in errors[:REPORTED]],
            items_total=len(errors),
        )
        self.errors = list(errors)


class ImportChangedError(ConflictError):
    """The file would do something else now than what was shown."""

    code = "import_changed"
    title = "The preview is not true any more"


def _records(known: Known) -> dict[str, Mapping[str, JsonObject]]:
    return {"party": known.parties, "package": known.packages, "task": known.tasks}


@dataclass(frozen=True)
class Prepared:
    """A file, read and planned. `wanted` stands beside `steps`, one for one, unless `errors` stand against it."""

    project_id: UUID
    name: str
    plan: Plan
    steps: list[Step]
    wanted: list[Wanted]
    errors: list[ItemError]
    records: Known = field(default_factory=Known)
    """What is there now."""

    @property
    def changes(self) -> list[Change]:
        """The changes, with nothing sealed."""
        return [
            Change(
                operation=cast("Operation", one.operation),
                target_type=one.noun.stream_type,
                target=one.target,
                project_id=self.project_id,
                patch=one.patch,
                base_version=one.if_version or 0,
            )
            for one in self.wanted
        ]

    def known(self, step: Step) -> JsonObject:
        """The record that a step changes, as it is now; empty for a new one."""
        return _records(self.records)[step.target_type].get(step.key, {})

    @property
    def digest(self) -> str:
        """What this file does to what is there now, under whatever policy."""
        return content_digest(self.changes)

    @property
    def created(self) -> list[str]:
        """The outside references of the records that it makes."""
        return [step.key for step in self.steps if step.operation == "create"]


@dataclass(frozen=True)
class Preview:
    """What a file would do. Without `judged` nothing would be proposed; `errors` says why, else there is no news."""

    prepared: Prepared
    errors: list[ItemError]
    judged: Judged | None
    diff: list[RecordDiff]
    awaiting: list[tuple[Approval, bool]]
    """Open approvals of the same records, and whether they hold the very same changes.

    Of those that do not, whichever is applied first makes the others void.
    """


@dataclass(frozen=True)
class Submitted:
    """What became of a file."""

    prepared: Prepared
    outcome: Literal["applied", "pending", "confirmation_required", "unchanged"]
    proposal: Outcome | None = None
    joined: Approval | None = None
    """The approval that waited already for the very same changes."""


async def prepare(
    database: Database, vault: Vault, project_id: UUID, content: bytes, name: str, progress: Progress | None = None
) -> Prepared:
    """Read the file and plan what it does in the project.

    Raises what `reader.read` raises for a file that is not OCDS; whatever stands against single items is in `errors`.
    """
    told = progress or Progress()
    await told.say("reading")
    found = await to_thread.run_sync(lambda: list(read(content, name)))
    await told.say("checking", 0, len(found))
    known = await look_up(database, vault, project_id, found)
    await told.say("planning", 0, len(found))
    planned = await to_thread.run_sync(plan, found, known)
    steps = planned.steps()
    errors = list(planned.errors)
    proposed: list[Wanted] = []
    if not errors:
        resolve = _Resolver(project_id, known)
        for done, step in enumerate(steps):
            if done % _EVERY == 0:
                await told.say("planning", done, len(steps))
            try:
                proposed.append(resolve.wanted(step))
            except PmisError as error:
                errors.append(_item(step, error))
        errors += await _renamed(database, project_id, steps)
    return Prepared(project_id, name, planned, steps, [] if errors else proposed, errors, known)


async def preview(
    session: WriteSession, vault: Vault, principal: Principal, correlation_id: str, prepared: Prepared
) -> Preview:
    """What would come of submitting it; the caller takes the session back."""
    waiting = [(one, await holds(session, vault, one, prepared.digest)) for one in await _awaiting(session, prepared)]
    if prepared.errors or not prepared.wanted:
        return Preview(prepared, prepared.errors, None, [], waiting)
    request = _request(principal, correlation_id, prepared)
    try:
        judged = await _judged(session, vault, request, prepared)
    except ImportRefusedError as error:
        return Preview(prepared, error.errors, None, [], waiting)
    return Preview(prepared, [], judged, diffs(judged), waiting)


async def submit(
    session: WriteSession,
    vault: Vault,
    principal: Principal,
    correlation_id: str,
    prepared: Prepared,
    *,
    confirm: bool = False,
    shown: str | None = None,
    recent: bool = False,
) -> Submitted:
    """Propose everything that the file calls for as one change.

    With `confirm` a proposal that only waits for the proposer's own yes has it. `shown` is the digest of the preview
    that the yes was said to, `recent` whether they proved lately who they are. Raises ImportRefusedError with every
    item that stands against it, ImportChangedError when it would do something else than was shown, and BusyError when
    the records moved since it was planned.
    """
    if prepared.errors:
        raise ImportRefusedError(prepared.name, prepared.errors)
    if shown is not None and shown != prepared.digest:
        raise ImportChangedError(
            f"{prepared.name}: what it would do here has changed since it was shown. Look at it again.",
            digest=prepared.digest,
        )
    # One import at a time in a project, so that a twin finds what the other proposed.
    await session.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"import {prepared.project_id}",))
    if prepared.plan.idle:
        await session.execute(
            "insert into ledger.import_seen select %s, unnest(%s::text[]) on conflict do nothing",
            (prepared.project_id, list(prepared.plan.idle)),
        )
    if not prepared.wanted:
        return Submitted(prepared, "unchanged")
    request = _request(principal, correlation_id, prepared)
    confirming = confirm and principal.kind == "person"
    for approval in await _awaiting(session, prepared):
        if await holds(session, vault, approval, prepared.digest):
            own = approval.proposer.person_id == principal.person_id
            if approval.status == "confirmation_required" and confirming and own:
                outcome = await decide.confirm(
                    session, vault, request, approval.id, shown=approval.digest, recent=recent
                )
                return Submitted(prepared, outcome.outcome, outcome)
            waits = "confirmation_required" if approval.status == "confirmation_required" else "pending"
            return Submitted(prepared, waits, joined=approval)
    if await any_there(session, prepared.project_id, prepared.created):
        raise _moved(prepared)
    changes = await _sealed(session, vault, request, prepared)
    try:
        outcome = await propose(session, vault, request, changes)
    except PmisError as error:
        raise await _explained(session, request, prepared, changes, error) from None
    if outcome.outcome == "confirmation_required" and confirming and outcome.approval is not None:
        outcome = await decide.confirm(
            session, vault, request, outcome.approval.id, shown=outcome.approval.digest, recent=recent
        )
    return Submitted(prepared, outcome.outcome, outcome)


def item_json(error: ItemError) -> JsonObject:
    """Something wrong with an item, as the API says it."""
    return {**place_json(error), "code": error.code, "message": error.message}


def place_json(item: ItemError | Step) -> JsonObject:
    """Where an item stands in its file."""
    place = item.place
    return {"place": str(place), "line": place.line, "pointer": place.pointer}


# --- from steps to changes ---


class _Resolver:
    """Turns outside references into ids: those of records that are there, else those that new records will have."""

    def __init__(self, project_id: UUID, known: Known) -> None:
        self._project_id = project_id
        self._known = _records(known)
        self._new: dict[tuple[str, str], UUID] = {}

    def identity(self, target_type: str, key: str) -> UUID:
        """The id of the record with this outside reference, now or once it is created."""
        record = self._known[target_type].get(key)
        # Lists go by ids, which follow each other in time; one derived from the reference would stand just anywhere.
        return UUID(str(record["id"])) if record else self._new.setdefault((target_type, key), uuid7())

    def wanted(self, step: Step) -> Wanted:
        """The change that a step stands for; raises InvalidInputError where a value is not good here."""
        patch = dict(step.patch)
        if isinstance(vendor := patch.get("vendor_id"), PartyKey):
            patch["vendor_id"] = str(self.identity("party", vendor))
        if "package_id" in patch:
            patch["package_id"] = str(self.identity("package", patch["package_id"]))
        noun = NOUNS[step.target_type]
        record = self._known[step.target_type].get(step.key)
        return Wanted(
            noun,
            step.operation,
            self.identity(step.target_type, step.key),
            noun.validated(step.operation, patch),
            self._project_id,
            int(cast("int", record["version"])) if record else None,
        )


async def _renamed(database: Database, project_id: UUID, steps: Sequence[Step]) -> list[ItemError]:
    """New packages of processes that were imported before, under a reference that was changed here since."""
    processes = {
        str(step.patch["data"]["ocds"]["ocid"]): step
        for step in steps
        if step.operation == "create" and step.target_type == "package"
    }
    if not processes:
        return []
    async with database.read(Reach.of(frozenset({project_id}))) as session:
        found = await renamed(session, project_id, list(processes))
    return [
        ItemError(
            processes[ocid].place,
            "reference_changed",
            f"{code} was imported from this process before, and its outside reference was changed here since; set it "
            f"back to {visible(processes[ocid].key)} before importing more about it",
        )
        for ocid, code in found
    ]


async def _awaiting(session: WriteSession, prepared: Prepared) -> list[Approval]:
    targets = {one.target for one in prepared.wanted}
    return await awaiting(session, prepared.project_id, targets, frozenset(prepared.created))


def _item(step: Step, error: PmisError) -> ItemError:
    return ItemError(step.place, error.code, f"{step.target_type}: {error.detail.rstrip('.')}")


def _request(principal: Principal, correlation_id: str, prepared: Prepared) -> Request:
    count = prepared.plan.releases - prepared.plan.repeated
    return Request(
        principal,
        "import",
        correlation_id,
        reason=f"OCDS import of {prepared.name}: {count} release{'' if count == 1 else 's'}",
        writer=Writer.IMPORT,
    )


async def _sealed(session: WriteSession, vault: Vault, request: Request, prepared: Prepared) -> list[Wanted]:
    """The changes with their secret fields in the vault; raises ImportRefusedError for those that cannot be there."""
    changes: list[Wanted] = []
    for step, one in zip(prepared.steps, prepared.wanted, strict=True):
        try:
            changes += await sealed(session, vault, request, [one])
        except PmisError as error:
            raise _named(prepared, step, error) from None
    return changes


async def _judged(session: WriteSession, vault: Vault, request: Request, prepared: Prepared) -> Judged:
    changes = await _sealed(session, vault, request, prepared)
    try:
        return await judge(session, request, changes)
    except PmisError as error:
        raise await _explained(session, request, prepared, changes, error) from None


async def _explained(
    session: WriteSession, request: Request, prepared: Prepared, changes: Sequence[Wanted], error: PmisError
) -> PmisError:
    """The refusal of a proposal as one that names the item it is about.

    A change is judged by what comes before it and by nothing after it, so halving finds the first that is refused.
    """
    if isinstance(error, StaleVersionError):
        return _moved(prepared)
    if error.retry_after is not None:
        return error
    good, bad = 0, len(changes)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            await judge(session, request, changes[:middle])
        except PmisError as found:
            bad, error = middle, found
        else:
            good = middle
    return _named(prepared, prepared.steps[bad - 1], error)


def _named(prepared: Prepared, step: Step, error: PmisError) -> PmisError:
    if error.status in _REFUSALS and error.retry_after is None:
        return ImportRefusedError(prepared.name, [_item(step, error)])
    if isinstance(error, ForbiddenError):
        error.detail = f"{step.place}: {error.detail}"
    return error


def _moved(prepared: Prepared) -> BusyError:
    return BusyError(f"{prepared.name}: what it changes was changed while it was read. Import it again.")
