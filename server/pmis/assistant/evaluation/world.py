"""The world that the utterances speak of, and how it is loaded: by the API's own calls, each proposal agreed by others.

People, projects and roles come first, by whoever sets up an instance; everything else is proposed over HTTP as anybody
would, in an order in which codes come out as the utterances name them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Protocol
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "draft": (),
    "submitted": ("submitted",),
    "in_review": ("submitted", "in_review"),
    "approved": ("submitted", "in_review", "approved"),
    "awarded": ("submitted", "in_review", "approved", "awarded"),
    "active": ("submitted", "in_review", "approved", "awarded", "active"),
    "on_hold": ("submitted", "in_review", "approved", "awarded", "active", "on_hold"),
    "completed": ("submitted", "in_review", "approved", "awarded", "active", "completed"),
    "cancelled": ("cancelled",),
}
_TASK_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "pending": (),
    "in_progress": ("in_progress",),
    "blocked": ("in_progress", "blocked"),
    "review_needed": ("in_progress", "review_needed"),
    "completed": ("in_progress", "completed"),
}
_REASON: Final = "As planned."


class Caller(Protocol):
    """Sends one request in somebody's name, and gives the JSON answer; raises for one refused, save for a decision."""

    async def __call__(self, who: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """`who` is a key of the world's people, `path` begins after the version."""
        ...


@dataclass
class World:
    """The world as data, and the ids that its records got when they were loaded."""

    data: Mapping[str, Any]
    ids: dict[str, str] = field(default_factory=dict[str, str])
    """By `person:maria`, `party:acme`, `project:P`, `package:P-001` and `task:beams`."""

    @property
    def now(self) -> datetime:
        """The time at which all is said."""
        return datetime.fromisoformat(self.data["now"])

    @property
    def zone(self) -> ZoneInfo:
        """Where it is said."""
        return ZoneInfo(self.data["zone"])

    def named(self, identity: str) -> str | None:
        """By what the utterances call the record with this id, such as `package:P-001`."""
        return next((name for name, one in self.ids.items() if one == identity), None)

    async def load(self, call: Caller) -> None:
        """Make the records, of which people, projects and roles are there; their ids are in `ids` already."""
        loading = _Loading(self, call)
        for key, party in self.data["parties"].items():
            body = {**party, "project": self.ids[f"project:{party['project']}"]}
            self.ids[f"party:{key}"] = await loading.made("parties", body)
        for package in self.data["packages"]:
            await loading.package(package)
        for key, task in self.data["tasks"].items():
            await loading.task(key, task)
        for package in self.data["packages"]:
            await loading.steps(
                f"packages/{self.ids['package:' + package['code']]}", _PATHS[package["status"]], package
            )
        for waiting in self.data["waiting"]:
            path = f"packages/{self.ids['package:' + waiting['package']]}"
            await call(waiting["who"], "PATCH", f"/{path}", {**waiting["patch"], "reason": waiting["reason"]})


def load_world() -> World:
    """The world of the evaluation, not loaded anywhere yet."""
    text = files("pmis.assistant.evaluation").joinpath("world.json").read_text("utf-8")
    return World(json.loads(text))


class _Loading:
    def __init__(self, world: World, call: Caller) -> None:
        self._world = world
        self._call = call
        self._who: str = world.data["asker"]

    async def made(self, path: str, body: Mapping[str, Any]) -> str:
        """Propose a record and see it applied; its id."""
        said = {**body, "reason": _REASON}
        answer = await self._settled(await self._call(self._who, "POST", f"/{path}", said))
        return str(answer["resource"]["id"])

    async def package(self, data: Mapping[str, Any]) -> None:
        """A draft with its fields; the code that it gets must be the one that the data names."""
        ids = self._world.ids
        names = ("title", "amount", "currency", "planned_start", "planned_end")
        body = {name: data[name] for name in names if name in data}
        if "owner" in data:
            body["owner_id"] = ids[f"person:{data['owner']}"]
        body["project"] = ids[f"project:{data['code'].partition('-')[0]}"]
        ids[f"package:{data['code']}"] = await self.made("packages", body)

    async def task(self, key: str, data: Mapping[str, Any]) -> None:
        """A task, taken to its status."""
        ids = self._world.ids
        body = {
            "package_id": ids[f"package:{data['package']}"],
            "title": data["title"],
            "assignee_id": ids[f"person:{data['assignee']}"],
            "due_date": data.get("due_date"),
        }
        ids[f"task:{key}"] = await self.made("tasks", body)
        await self.steps(f"tasks/{ids[f'task:{key}']}", _TASK_PATHS[data["status"]], {})

    async def steps(self, path: str, statuses: tuple[str, ...], data: Mapping[str, Any]) -> None:
        """Take a record to a status, step by step."""
        for status in statuses:
            body = {"status": status, "reason": _REASON}
            if status == "awarded":
                body["vendor_id"] = self._world.ids[f"party:{data['vendor']}"]
            await self._settled(await self._call(self._who, "POST", f"/{path}/transitions", body))

    async def _settled(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Confirm what the proposer has to confirm, and let others agree until it is applied."""
        if answer["outcome"] == "confirmation_required":
            approval = answer["approval"]
            answer = await self._call(
                self._who, "POST", f"/approvals/{approval['id']}/confirm", {"digest": approval["digest"]}
            )
        for who in self._world.data["deciders"]:
            if answer["outcome"] == "applied":
                break
            approval = answer["approval"]
            said = {"digest": approval["digest"], "reason": _REASON}
            said_so = await self._call(who, "POST", f"/approvals/{approval['id']}/approve", said)
            # Not every decider has a seat in every approval; whoever has none is refused, and the next one is asked.
            answer = said_so if "outcome" in said_so else answer
        return answer
