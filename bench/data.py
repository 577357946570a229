"""The packages that every contestant is filled with, each with five to seven entries of history.

They are the same ones each time: everything derives from one seed, and a package's own values do not depend on how many
there are. Words follow Zipf's law, so that a search meets rare and common words as it does in real text.
"""

from __future__ import annotations

import itertools
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED: Final = 20260107
PROJECTS: Final = 10
PEOPLE: Final = 24
VENDORS: Final = 200
EPOCH: Final = datetime(2023, 1, 2, 8, tzinfo=UTC)
LIFE: Final = ("draft", "submitted", "in_review", "approved", "awarded", "active", "completed")
_STATUS_WEIGHTS: Final = (40, 12, 10, 10, 8, 12, 8)
TYPES: Final = ("works", "goods", "services", "consulting")
CURRENCIES: Final = ("USD", "EUR", "GBP")

Verb = Literal["created", "patched", "transitioned"]


def uuid7(at: datetime, rng: random.Random) -> uuid.UUID:
    """A version 7 UUID of that moment with the generator's randomness."""
    milliseconds = int(at.timestamp() * 1000)
    value = (milliseconds << 80) | (7 << 76) | (rng.getrandbits(12) << 64) | (2 << 62) | rng.getrandbits(62)
    return uuid.UUID(int=value)


def vocabulary() -> list[str]:
    """Three thousand pronounceable words, the commonest first."""
    rng = random.Random(SEED)
    onsets = [
        "b",
        "br",
        "c",
        "cl",
        "d",
        "dr",
        "f",
        "g",
        "gr",
        "h",
        "l",
        "m",
        "n",
        "p",
        "pl",
        "r",
        "s",
        "st",
        "t",
        "tr",
        "v",
    ]
    rhymes = ["a", "an", "ar", "e", "el", "en", "er", "i", "in", "o", "on", "or", "ou", "u", "us"]
    words: dict[str, None] = {}
    while len(words) < 3000:
        words["".join(rng.choice(onsets) + rng.choice(rhymes) for _ in range(rng.choice((2, 2, 3))))] = None
    return list(words)


WORDS: Final = vocabulary()
_WORD_WEIGHTS: Final = list(itertools.accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))
# Ranks 100 to 600: each such word stands in 0.6 to 3.7 % of the packages.
SEARCH_WORDS: Final = WORDS[100:600]


def sentence(rng: random.Random, length: int) -> str:
    """So many words, starting with a capital."""
    return " ".join(rng.choices(WORDS, cum_weights=_WORD_WEIGHTS, k=length)).capitalize()


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of a package's history: what it was before and after, field by field."""

    id: uuid.UUID
    verb: Verb
    at: datetime
    person: int
    changes: dict[str, tuple[Any, Any]]


@dataclass(slots=True)
class Package:
    """One package as it stands after its history; whoever stores it gives it a number.

    `project`, and `owner` and `vendor` in the fields, are indexes into the world's lists.
    """

    id: uuid.UUID
    project: int
    fields: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    history: list[Entry] = field(default_factory=list[Entry])

    @property
    def version(self) -> int:
        """How many facts made it."""
        return len(self.history)


def project_prefix(project: int) -> str:
    """The prefix of the codes of a project."""
    return f"B{chr(ord('A') + project)}"


def code(project: int, number: int) -> str:
    """The code that people call a package by."""
    return f"{project_prefix(project)}-{number:03d}"


@dataclass(frozen=True, slots=True)
class World:
    """The things that packages refer to."""

    projects: list[uuid.UUID]
    people: list[uuid.UUID]
    vendors: list[uuid.UUID]


def world() -> World:
    """Projects, people and vendors: the same for every number of packages."""
    rng = random.Random(SEED + 1)
    at = EPOCH - timedelta(days=30)
    return World(
        projects=[uuid7(at, rng) for _ in range(PROJECTS)],
        people=[uuid7(at, rng) for _ in range(PEOPLE)],
        vendors=[uuid7(at, rng) for _ in range(VENDORS)],
    )


def person_name(index: int) -> str:
    """The name that the log remembers."""
    return f"{WORDS[index].capitalize()} {WORDS[index + 40].capitalize()}"


def vendor_name(index: int) -> str:
    """The name of a vendor."""
    return f"{WORDS[index + 100].capitalize()} {WORDS[index + 300].capitalize()} Ltd"


def new_package_fields(rng: random.Random) -> dict[str, Any]:
    """What a person fills in for a new package; JSON values only."""
    start = date(2026, 1, 1) + timedelta(days=rng.randrange(720))
    return {
        "title": sentence(rng, rng.randint(4, 8)),
        "description": sentence(rng, rng.randint(18, 30)),
        "amount": f"{rng.randint(1_000, 90_000) * 10}.{rng.randrange(100):02d}",
        "currency": rng.choice(CURRENCIES),
        "planned_start": start.isoformat(),
        "planned_end": (start + timedelta(days=rng.randint(30, 400))).isoformat(),
        "data": {
            "lot": rng.randint(1, 40),
            "location": rng.choice(WORDS[:200]).capitalize(),
            "method": rng.choice(("open", "selective", "limited")),
            "sustainable": rng.random() < 0.5,
        },
    }


def _patch(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    match rng.randrange(4):
        case 0:
            return {"description": sentence(rng, rng.randint(18, 30))}
        case 1:
            return {"amount": f"{rng.randint(1_000, 90_000) * 10}.{rng.randrange(100):02d}"}
        case 2:
            end = date.fromisoformat(fields["planned_end"]) + timedelta(days=rng.randint(1, 60))
            return {"planned_end": end.isoformat()}
        case _:
            return {"owner": rng.randrange(PEOPLE), "title": sentence(rng, rng.randint(4, 8))}


def packages(count: int, *, seed: int = SEED, since: datetime = EPOCH, drafts_only: bool = False) -> Iterator[Package]:
    """That many packages, spread evenly over the projects, oldest first.

    With `drafts_only` each is still a draft: material for transitions, which can be used but once.
    """
    for index in range(count):
        rng = random.Random(seed * 1_000_003 + index)
        created = since + timedelta(minutes=11 * index, microseconds=rng.randrange(1_000_000))
        project = index % PROJECTS
        fields: dict[str, Any] = new_package_fields(rng) | {
            "status": "draft",
            "package_type": rng.choice(TYPES),
            "owner": rng.randrange(PEOPLE),
            "vendor": rng.randrange(VENDORS) if rng.random() < 0.6 else None,
            "actual_start": None,
            "actual_end": None,
        }
        package = Package(uuid7(created, rng), project, fields, created, created)
        package.history.append(
            Entry(
                uuid7(created, rng),
                "created",
                created,
                rng.randrange(PEOPLE),
                {k: (None, v) for k, v in fields.items()},
            )
        )
        steps = 0 if drafts_only else rng.choices(range(len(LIFE)), weights=_STATUS_WEIGHTS)[0]
        patches = max(0, rng.randint(4, 6) - steps)
        at = created
        for verb in ["patched"] * patches + ["transitioned"] * steps:
            at += timedelta(seconds=rng.randint(60, 600))
            if verb == "patched":
                after = _patch(rng, fields)
            else:
                after = {"status": LIFE[LIFE.index(fields["status"]) + 1]}
                if after["status"] == "active":
                    after["actual_start"] = at.date().isoformat()
                if after["status"] == "completed":
                    after["actual_end"] = at.date().isoformat()
            changes = {name: (fields[name], value) for name, value in after.items()}
            package.history.append(
                Entry(
                    uuid7(at, rng),
                    "patched" if verb == "patched" else "transitioned",
                    at,
                    rng.randrange(PEOPLE),
                    changes,
                )
            )
            fields.update(after)
        package.updated_at = at
        yield package
