"""Who sent a mail, as far as a mail server of ours checked it.

Anybody can write `From:` and `Authentication-Results:`. The results count only when the mail came by a way that is
trusted to have removed forged ones, and only those under the name that the settings give; of these only the topmost,
as each server puts its own on top. A sender is authenticated when DMARC passed for the very domain of `From:`, or,
where DMARC was not judged, when DKIM or SPF passed for that very domain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmis.mail.reading import Headers

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_COMMENT: Final = re.compile(r"\([^()]*\)")
_RESULT: Final = re.compile(r"(spf|dkim|dmarc)\s*=\s*([a-z]{1,12})\b", re.IGNORECASE)
_PROPERTY: Final = re.compile(
    r"\b(header\.from|header\.d|header\.i|smtp\.mailfrom)\s*=\s*([^\s;]{1,320})", re.IGNORECASE
)
_OF: Final = {"spf": ("smtp.mailfrom",), "dkim": ("header.d", "header.i"), "dmarc": ("header.from",)}


@dataclass(frozen=True)
class Result:
    """One method, its result, and the domain that it is about."""

    method: str
    result: str
    domain: str | None


@dataclass(frozen=True)
class Authentication:
    """What was checked, and whether the sender is who the mail says."""

    checked: bool = False
    authenticated: bool = False
    results: tuple[Result, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """For the row beside the log."""
        return {
            "checked": self.checked,
            "authenticated": self.authenticated,
            "results": [{"method": one.method, "result": one.result, "domain": one.domain} for one in self.results],
        }


def authenticate(headers: Headers, *, authserv_id: str | None, trusted: bool) -> Authentication:
    """What the trusted results say of the mail's sender."""
    if not trusted or authserv_id is None:
        return Authentication()
    for value in headers.authentication_results:
        bare = _bare(value)
        if any(mark in bare for mark in '"()'):
            return Authentication()  # it can be read in two ways
        head, _, rest = bare.partition(";")
        # The name may be followed by a version.
        if head.split()[:1] and head.split()[0].lower() == authserv_id.lower():
            results = tuple(_results(rest))
            return Authentication(checked=True, authenticated=_passes(headers, results), results=results)
    return Authentication()


def _bare(value: str) -> str:
    """The header without quoted texts and comments: both may hold what the sender wrote, such as `; dmarc=pass`."""
    value = _QUOTED.sub("", value)
    while (shorter := _COMMENT.sub(" ", value)) != value:
        value = shorter
    return value


def _results(text: str) -> Iterator[Result]:
    for part in text.split(";")[:30]:
        found = _RESULT.match(part.strip())
        if found is None:
            continue
        method = found[1].lower()
        properties = {name.lower(): value.lower() for name, value in _PROPERTY.findall(part)}
        given = next((properties[name] for name in _OF[method] if name in properties), None)
        yield Result(method, found[2].lower(), given.rpartition("@")[2] if given else None)


def _passes(headers: Headers, results: tuple[Result, ...]) -> bool:
    if not headers.from_is_one:
        return False
    local, _, domain = headers.from_[0].address.lower().rpartition("@")
    if not local or not domain:
        return False
    judged = [one for one in results if one.method == "dmarc" and one.result != "none"]
    if judged:
        return all(one.result == "pass" and one.domain == domain for one in judged)
    return any(one.result == "pass" and one.domain == domain for one in results)
