"""The stable names (`external_ref`) under which PMIS finds again what an OCDS release speaks of.

| what | name |
|---|---|
| a contracting process | `ocds:<ocid>` |
| an award that has a package of its own | `ocds:<ocid>/awards/<id>` |
| a milestone | `ocds:<ocid>/<where it stands>/<id>`, such as `ocds:<ocid>/tender/milestones/<id>` |
| an organisation known by its registration | `ocds-org:<scheme>-<number>`, the same in every process |
| an organisation known in one process only | `ocds:<ocid>/parties/<id>` |

Identifiers are percent-encoded where they hold a slash or anything that is not plain, so that no two names can meet; a
name that grows over 300 characters ends in a digest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pmis.kit.canonical import sha256_hex
from pmis.ocds.values import child, identifier, line

if TYPE_CHECKING:
    from collections.abc import Container

    from pmis.ocds.values import JsonObject

KEY_LENGTH: Final = 300

# An identifier in the form of org-id.guide: a jurisdiction, a register, a number.
_REGISTERED: Final = re.compile(r"[A-Z]{2}-[A-Z0-9_]+-\S+", re.ASCII)


def package_key(ocid: str) -> str:
    """The name of a contracting process."""
    return _bounded(_process(ocid))


def process_prefix(ocid: str) -> str:
    """How every name of something inside a contracting process begins, its own included."""
    return _process(ocid)[: KEY_LENGTH - 65]


def award_key(ocid: str, award: str) -> str:
    """The name of an award that has a package of its own."""
    return _bounded(f"{_process(ocid)}/awards/{_plain(award)}")


def task_key(ocid: str, path: tuple[str, ...], milestone: str) -> str:
    """The name of a milestone, from the names of what holds it."""
    return _bounded("/".join([_process(ocid), *map(_plain, path), _plain(milestone)]))


def party_key(ocid: str, party: JsonObject, taken: Container[str] = ()) -> str:
    """The name of an organisation.

    Its `id` when that has the form of a registration (it may name a department, which the registration does not),
    else its registration, else its `id` within the process. `taken` holds the names that others in the process have.
    """
    own = identifier(party.get("id")) or ""
    registration = child(party, "identifier")
    scheme, number = line(registration.get("scheme")), identifier(registration.get("id"))
    for known in (own if _REGISTERED.fullmatch(own) else None, f"{scheme}-{number}" if scheme and number else None):
        if known and (key := _bounded(f"ocds-org:{_plain(known)}")) not in taken:
            return key
    return _bounded(f"{_process(ocid)}/parties/{_plain(own)}")


def _process(ocid: str) -> str:
    return f"ocds:{_plain(ocid)}"


def _plain(part: str) -> str:
    return quote(part, safe=":.-_~")


def _bounded(key: str) -> str:
    """The name itself, or for a long one its beginning and a digest; the mark between is encoded everywhere else."""
    return key if len(key) <= KEY_LENGTH else f"{key[: KEY_LENGTH - 65]}#{sha256_hex(key)}"
