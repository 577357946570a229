"""From what people write to ids, and back from ids to names.

A record is written as its id, as the last digits of it that lists show, or by what people call it: a package by its
code, a project by its prefix, a party by its e-mail address or name, a person by name, oneself as `me`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pmis.cli.client import RefusedError
from pmis.cli.text import SHORT, printable, short, title_of
from pmis.kit.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pmis.cli.client import Api, Json

_FRAGMENT: Final = re.compile(r"[0-9a-f]{8,31}")
_CODE: Final = re.compile(r"[a-z][a-z0-9]{0,9}-[0-9]{1,9}")
SCANNED: Final = 5000
"""How many records are looked through for a short id, the newest first."""
_NOT_FOUND: Final = 404
COLLECTIONS: Final = {
    "package": "packages",
    "task": "tasks",
    "party": "parties",
    "project": "projects",
    "approval": "approvals",
    "person": "people",
    "comment": "comments",
    "memory": "memories",
    "membership": "memberships",
    "delegation": "delegations",
    "package_type": "package-types",
}
"""Where records of each kind are found."""
_LABELS: Final = {
    "audit": "event",
    "notifications": "notification",
    "invitations": "invitation",
    "tokens": "token",
    "webhooks": "webhook",
    **{path: kind.replace("_", " ") for kind, path in COLLECTIONS.items()},
}
_PEOPLE: Final = frozenset(
    {"owner_id", "assignee_id", "person_id", "from_person", "to_person", "deleted_by", "hand_over_to", "inviter"}
)


def full_id(text: str) -> str | None:
    """The id in its usual form, when the text is a whole one."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


class Lookup:
    """Finds records for one run of a command, and remembers their names."""

    def __init__(self, api: Api) -> None:
        """Nothing is asked before it is needed."""
        self._api = api
        self._people: dict[str, str] | None = None
        self._names: dict[str, str] = {}

    def identity(self, path: str, text: str) -> str:
        """The id of the record that the text names in a collection; raises NotFoundError or ConflictError."""
        finders: dict[str, Callable[[str], str]] = {
            "packages": self.package,
            "projects": self.project,
            "people": self.person,
            "parties": self.party,
            "approvals": self.approval,
        }
        find = finders.get(path)
        return find(text) if find else full_id(text) or self._by_fragment(path, text)

    def reference(self, path: str, text: str) -> str:
        """How the API's own address of a record names it: packages and projects have names there, the rest ids."""
        if path == "packages":
            return text.upper() if _CODE.fullmatch(text) else text
        return text if path == "projects" else self.identity(path, text)

    def package(self, text: str) -> str:
        """A package by its code or id."""
        return full_id(text) or self._api.get("packages", self.reference("packages", text)).json["id"]

    def project(self, text: str) -> str:
        """A project by its prefix or id."""
        return full_id(text) or self._api.get("projects", text).json["id"]

    def person(self, text: str) -> str:
        """A person by name, id, short id, or `me`."""
        whole = full_id(text)
        if whole:
            return whole
        if text == "me":
            return self._api.get("auth", "me").json["id"]
        people = self._everybody()
        wanted = text.casefold()
        found = [identity for identity, name in people.items() if name.casefold() == wanted]
        found = found or [identity for identity in people if short(identity) == wanted]
        return self._only(found, "person", text, [f"{people[identity]} ({short(identity)})" for identity in found])

    def party(self, text: str) -> str:
        """A party by e-mail address, name, id or short id."""
        whole = full_id(text)
        if whole:
            return whole
        if "@" in text:
            found = self._api.listed("parties", email=text).items
        elif _FRAGMENT.fullmatch(text.lower()):
            return self._by_fragment("parties", text)
        else:
            wanted = text.casefold()
            found = [
                item
                for item in self._api.every("parties", at_most=SCANNED, q=text)
                if str(item.get("name", "")).casefold() == wanted
            ]
        return self._only(
            [item["id"] for item in found], "party", text, [f"{title_of(item)} ({short(item['id'])})" for item in found]
        )

    def approval(self, text: str) -> str:
        """An approval by id or short id, or by the code of a package that it is about while it waits."""
        whole = full_id(text)
        if whole:
            return whole
        waiting = self._api.every("approvals", at_most=SCANNED, status="pending,confirmation_required")
        package = self._package_called(text)
        if package is not None:
            found = [one for one in waiting if any(change["target"] == package for change in one["changes"])]
        else:
            fragment = self._fragment("approval", text)
            found = _matching(waiting, fragment)
            # The last digits are random, so one that waits is the one. The first ones only tell the time.
            if len(found) != 1 or not found[0]["id"].replace("-", "").endswith(fragment):
                found = _matching(self._api.every("approvals", at_most=SCANNED, sort="-created_at"), fragment)
        if package is not None and not found:
            raise NotFoundError(f"No approval waits about {printable(text)}; one that is closed is named by its id.")
        return self._only(
            [item["id"] for item in found],
            "approval",
            text,
            [f"{item['id']} ({printable(str(item.get('label', '')))})" for item in found],
        )

    def _package_called(self, text: str) -> str | None:
        """The id of the package with this code; None for what is no code, or may be a short id and is nobody's."""
        if not _CODE.fullmatch(text.lower()):
            return None
        try:
            return self.package(text.upper())
        except RefusedError as error:
            if error.problem.get("status") == _NOT_FOUND and _FRAGMENT.fullmatch(text.replace("-", "").lower()):
                return None
            raise

    def within(self, path: Sequence[str], label: str, text: str) -> str:
        """The id of the record that the text names in a list that lies within another record."""
        return full_id(text) or self._listed(path, label, text)

    def _by_fragment(self, path: str, text: str) -> str:
        return self._listed((path,), _LABELS[path], text)

    def _listed(self, path: Sequence[str], label: str, text: str) -> str:
        fragment = self._fragment(label, text)
        found = _matching(self._api.every(*path, at_most=SCANNED), fragment)
        return self._only([item["id"] for item in found], label, text, [str(item["id"]) for item in found])

    def _fragment(self, label: str, text: str) -> str:
        fragment = text.replace("-", "").lower()
        if not _FRAGMENT.fullmatch(fragment):
            raise NotFoundError(
                f"{printable(text[:80])!r} names no {label}: give the id, or the last {SHORT} digits of it as lists "
                "show them."
            )
        return fragment

    def _only(self, found: list[str], label: str, text: str, described: list[str]) -> str:
        if not found:
            raise NotFoundError(f"There is no {label} {printable(text[:80])!r} that you may see.")
        if len(found) > 1:
            listed = ", ".join(described[:5]) + (", ..." if len(described) > 5 else "")  # noqa: PLR2004 - enough to choose
            raise ConflictError(f"{printable(text[:80])!r} names {len(found)} of them: {listed}. Say which by its id.")
        return found[0]

    def _everybody(self) -> dict[str, str]:
        if self._people is None:
            people = self._api.every("people", at_most=SCANNED)
            self._people = {person["id"]: printable(str(person["name"])) for person in people}
        return self._people

    # --- names ---

    def name(self, field: str, value: Any) -> str | None:  # noqa: ANN401 - any JSON value
        """What people call the record that a field refers to; None when the field refers to none."""
        if not isinstance(value, str) or full_id(value) is None:
            return None
        if field in _PEOPLE:
            known = self._everybody().get(value)
            return f"{known} ({short(value)})" if known else short(value)
        if field == "vendor_id":
            return self._titled("parties", value)
        if field == "package_id":
            return self._titled("packages", value)
        return None

    def project_prefix(self, identity: str) -> str:
        """The prefix by which people know a project."""
        if identity not in self._names:
            self._names[identity] = self._read("projects", identity, lambda record: str(record["prefix"]))
        return self._names[identity]

    def _titled(self, path: str, identity: str) -> str:
        if identity not in self._names:
            shown: Callable[[Json], str] = (
                title_of if path == "packages" else lambda record: f"{title_of(record)} ({short(identity)})"
            )
            self._names[identity] = self._read(path, identity, shown)
        return self._names[identity]

    def _read(self, path: str, identity: str, shown: Callable[[Json], str]) -> str:
        try:
            return shown(self._api.get(path, identity).json)
        except RefusedError as error:
            if error.problem.get("status") != _NOT_FOUND:
                raise
            return short(identity)


def _matching(items: Iterable[Json], fragment: str) -> list[Json]:
    found: list[Json] = []
    for item in items:
        digits = str(item["id"]).replace("-", "")
        if digits.endswith(fragment) or digits.startswith(fragment):
            found.append(item)
    return found
