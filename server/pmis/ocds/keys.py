"""The stable names (`external_ref`) under which PMIS finds again what an OCDS release speaks of.

| what | name |
|---|---|
| a contracting process | `ocds:<ocid>` |
| an award that has a package of its own | `ocds:<ocid>/awards/<id>` |
| a milestone | `ocds:<ocid>/<where it stands>/<id>`, such as `ocds:<ocid>/tender/milestones/<id>` |
| an organisation known by its registration | `ocds-org:<scheme>-<number>`, the same in every process |
| an organisation known in one process only | `ocds:<ocid>/parties/<id>` |

Identifiers are percent-encoded where they hold a slash or anything that is not plain, so that no two names can meet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pmis.ocds.values import child, identifier, line

if TYPE_CHECKING:
    from pmis.ocds.values import JsonObject

# An identifier in the form of org-id.guide: a jurisdiction, a register, a number.
_REGISTERED: Final = re.compile(r"[A-Z]{2}-[A-Z0-9_]+-\S+", re.ASCII)


def package_key(ocid: str) -> str:
    """The name of a contracting process."""
    return f"ocds:{_plain(ocid)}"


def award_key(ocid: str, award: str) -> str:
    """The name of an award that has a package of its own."""
    return f"{package_key(ocid)}/awards/{_plain(award)}"


def task_key(ocid: str, path: tuple[str, ...], milestone: str) -> str:
    """The name of a milestone, from the names of what holds it."""
    return "/".join([package_key(ocid), *map(_plain, path), _plain(milestone)])


def party_key(ocid: str, party: JsonObject, taken: frozenset[str] = frozenset()) -> str:
    """The name of an organisation.

    Its `id` when that has the form of a registration (it may name a department, which the registration does not),
    else its registration, else its `id` within the process. `taken` holds the names that others in the process have.
    """
    own = identifier(party.get("id")) or ""
    registration = child(party, "identifier")
    scheme, number = line(registration.get("scheme")), identifier(registration.get("id"))
    for known in (own if _REGISTERED.fullmatch(own) else None, f"{scheme}-{number}" if scheme and number else None):
        if known and (key := f"ocds-org:{_plain(known)}") not in taken:
            return key
    return f"{package_key(ocid)}/parties/{_plain(own)}"


def _plain(part: str) -> str:
    return quote(part, safe=":.-_~ ()+,@")
