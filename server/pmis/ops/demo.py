"""The demo: seven people, one project, a package in every status, two approvals that wait.

Packages are moved by the demo's people on the governed path, each step proposed by one and approved by another, so that
the log of a fresh install shows what a log looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pmis.nouns  # pyright: ignore[reportUnusedImport] - puts the nouns on the governed path  # noqa: F401
from pmis.approval import decide
from pmis.approval.propose import Outcome, Request, Wanted, propose
from pmis.approval.registry import NOUNS
from pmis.identity.principals import load_principal
from pmis.kit.db import in_transaction
from pmis.kit.ids import uuid7
from pmis.ops.console import Console, vault_of
from pmis.ops.demo_people import PASSWORD, PEOPLE

if TYPE_CHECKING:
    from uuid import UUID

    from pmis.kit.db import WriteSession
    from pmis.kit.settings import Settings
    from pmis.ledger.vault import Vault

_PATH: Final = ("submitted", "in_review", "approved", "awarded", "active")
_PACKAGES: Final[tuple[tuple[str, str, str], ...]] = (
    ("Site survey", "48000.00", "draft"),
    ("Drainage design", "120000.00", "submitted"),
    ("Traffic signals", "310000.00", "in_review"),
    ("Noise barriers", "540000.00", "approved"),
    ("Asphalt works, section 1", "890000.00", "awarded"),
    ("Bridge bearings", "275000.00", "active"),
    ("Tree planting", "64000.00", "on_hold"),
    ("Soil investigation", "39000.00", "completed"),
    ("Temporary detour", "72000.00", "cancelled"),
)


@dataclass
class _Stage:
    session: WriteSession
    vault: Vault
    people: dict[str, UUID]
    project: UUID
    steps: int = 0

    async def request(self, who: str, reason: str | None = None) -> Request:
        self.steps += 1
        principal = await load_principal(self.session, self.people[who])
        return Request(principal, "system", f"demo-{self.steps}", reason=reason)

    async def propose(
        self, who: str, noun: str, operation: str, target: UUID, patch: dict[str, Any], reason: str | None = None
    ) -> Outcome:
        wanted = Wanted(NOUNS[noun], operation, target, NOUNS[noun].validated(operation, patch), self.project)
        return await propose(self.session, self.vault, await self.request(who, reason), [wanted])

    async def settle(self, outcome: Outcome, proposer: str) -> None:
        """Let the others agree until it is applied."""
        if outcome.outcome == "confirmation_required" and outcome.approval:
            await decide.confirm(
                self.session, self.vault, await self.request(proposer), outcome.approval.id, recent=True
            )
            return
        for who in ("admin", "executive"):
            approval = outcome.approval
            if outcome.outcome == "applied" or approval is None:
                return
            outcome = await decide.say(
                self.session,
                self.vault,
                await self.request(who),
                approval.id,
                "approve",
                reason="As agreed.",
                shown=approval.digest,
                recent=True,
            )

    async def do(
        self, noun: str, operation: str, target: UUID, patch: dict[str, Any], reason: str | None = None
    ) -> None:
        await self.settle(await self.propose("operator", noun, operation, target, patch, reason), "operator")


async def _package(stage: _Stage, title: str, amount: str, status: str, vendor: UUID) -> UUID:
    package = uuid7()
    today = stage.session.now.date()
    fields = {
        "title": title,
        "description": f"{title} for the ring road.",
        "amount": amount,
        "currency": "EUR",
        "owner_id": str(stage.people["operator"]),
        "planned_start": str(today - timedelta(days=30)),
        "planned_end": str(today + timedelta(days=120)),
    }
    await stage.do("package", "create", package, fields)
    for number, task in enumerate(("Write the specification", "Collect three offers")):
        due = str(today + timedelta(days=7 * number - 3))
        done = uuid7()
        await stage.do(
            "task",
            "create",
            done,
            {"package_id": str(package), "title": task, "due_date": due, "assignee_id": str(stage.people["analyst"])},
        )
        if status in ("completed", "cancelled", "active", "on_hold", "awarded"):
            await stage.do("task", "transition", done, {"status": "in_progress"})
            await stage.do("task", "transition", done, {"status": "completed"})
    if status == "cancelled":
        await stage.do("package", "transition", package, {"status": "cancelled"}, "The detour is not needed any more.")
        return package
    last = status if status in _PATH else None if status == "draft" else "active"
    for step in _PATH[: _PATH.index(last) + 1] if last else ():
        patch = {"status": step, **({"vendor_id": str(vendor)} if step == "awarded" else {})}
        await stage.do("package", "transition", package, patch)
    if status in ("on_hold", "completed"):
        await stage.do("package", "transition", package, {"status": status}, "As the weather allows.")
    return package


async def load_into(session: WriteSession, vault: Vault) -> bool:
    """Make the demo, unless the instance has people already; says whether it did. The caller commits."""
    if await session.one("select 1 from state.person limit 1"):
        return False
    console = Console(session, vault, "demo", "demo-0")
    people: dict[str, UUID] = {}
    for name, email, _ in PEOPLE:
        rights = {"instance_admin": email.startswith("admin@"), "instance_auditor": False}
        people[email.partition("@")[0]] = (await console.person(name, email, PASSWORD, **rights)).id
    project = await console.project(
        name="Ring road east",
        prefix="P",
        description="The demo: have a look round, and propose something.",
        timezone="Europe/Berlin",
        currency="EUR",
        budget="10000000.00",
    )
    for _, email, roles in PEOPLE:
        await console.member(project.id, people[email.partition("@")[0]], *roles)
    stage = _Stage(session, vault, people, project.id)
    vendor = uuid7()
    await stage.do(
        "party",
        "create",
        vendor,
        {
            "name": "Northern Roads Ltd",
            "kind": "vendor",
            "email": "office@northern-roads.example",
            "contacts": [{"name": "Nora North", "role": "Sales", "email": "nora@northern-roads.example"}],
        },
    )
    await stage.do(
        "party", "create", uuid7(), {"name": "City of Eastmoor", "kind": "customer", "email": "works@eastmoor.example"}
    )
    packages = [await _package(stage, title, amount, status, vendor) for title, amount, status in _PACKAGES]
    await stage.do(
        "comment",
        "create",
        uuid7(),
        {"entity_type": "package", "entity_id": str(packages[3]), "body": "Three offers are in."},
    )
    # Two proposals are left for whoever looks round: an award, and more money for a package under way.
    await stage.propose(
        "analyst",
        "package",
        "transition",
        packages[3],
        {"status": "awarded", "vendor_id": str(vendor)},
        "The lowest of three offers.",
    )
    await stage.propose("operator", "package", "patch", packages[5], {"amount": "295000.00"}, "Steel became dearer.")
    return True


def present(settings: Settings) -> bool:
    """Whether the instance has the demo's people."""

    async def look(session: WriteSession) -> bool:
        emails = [email for _, email, _ in PEOPLE]
        row = await session.one("select count(*) from identity.credential where email = any(%s)", (emails,))
        return row is not None and row[0] == len(PEOPLE)

    return in_transaction(settings.app_dsn, look)


def load(settings: Settings) -> bool:
    """Make the demo in the settings' database; says whether there was anything to do."""
    vault = vault_of(settings)
    return in_transaction(settings.app_dsn, lambda session: load_into(session, vault))
