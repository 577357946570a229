"""Why something is to be done, and what is to be written down word for word: taken out before a command is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pmis.assistant.planner.text import QUOTE, Said, aside
from pmis.assistant.planner.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

_WHY: Final = re.compile(
    r"[,;(-]?\s*(?<![\w'])(?:because(?: of)?|due to|owing to|on account of|given that|so that|in order to|"
    r"reason being(?: that)?|"
    r"(?:the |my |with the )?(?:reason|rationale|justification)(?: is| being| was)?(?: that)?\s*[:=-]?(?=\s)|"
    r"for the reason that|cause|bc|b/c|cos|"
    r"since(?= (?:the|we|they|it|he|she|our|no|there|i|his|her|their|its|nobody|all)\b))\s+(?P<why>\S.*)$",
    re.IGNORECASE | re.DOTALL,
)
_FIRST: Final = re.compile(
    r"^(?P<lead>(?:please|hi|hello|hey)[, ]+)?(?:(?:because(?: of)?|due to|owing to|since|given that|"
    r"given)\s+(?P<why>[^,]{3,200})|"
    r"(?P<asked>as (?:requested|discussed|agreed|decided|instructed|planned|per)(?: (?:by|with|in|at|"
    r"the)\b)?[^,]{0,80})),\s*",
    re.IGNORECASE,
)
_TAIL: Final = re.compile(r"[\s,.;!)]*(?:\b(?:please|pls|thanks|thank you)\b)?[\s.;!)]*$", re.IGNORECASE)
_JOINED: Final = re.compile(r"(?:,\s*|\s)(?:and|then)\s+(?:then |also |please )*(?P<verb>[a-z]+)\b", re.IGNORECASE)
_POINTS: Final = re.compile(r"\b[a-z][a-z0-9]{0,9}[- ]?[0-9]{1,6}\b|\bit\b", re.IGNORECASE)
_REMARK: Final = re.compile(
    r"\b(?:comments?|notes?|remarks?|write|post|say|reply)\s+(?:on|to|for|about|in|under|against|at|of|"
    r"down)\s+[^:\n]{1,100}?(?::\s*|\s+(?:that|saying(?: that)?|stating(?: that)?|to say(?: that)?|-)\s+)(?=\S)"
    r"|\b(?:comment|note|remark)\s*(?::|saying|that says|-)\s*(?=\S)",
    re.IGNORECASE,
)
_LEADS: Final = re.compile(
    f"\\s(?:that|saying|stating|to say|that says|-)(?: that)?\\s*(?={QUOTE.pattern}\\s*$)", re.IGNORECASE
)
_ASKS: Final = re.compile(
    r"^\W*(?:what|which|who|when|where|how|show|list|are|is|any|do|does|did|if|tell|find|has|have)\b", re.IGNORECASE
)
_CONTINUES: Final = re.compile(
    r"^(?:due|owner|assignee|assigned|assign it to|assign to|vendor|amount|deadline|budget|title|description|"
    r"for|by|with|worth|e-?mail)\b[^?]*$",
    re.IGNORECASE,
)


def with_remark_aside(said: Said) -> Said:
    """The message with the text of a comment, which no quotation marks enclose, put aside."""
    if _ASKS.match(said.text):
        return said
    found = _REMARK.search(said.text)
    if found is None or found.start() > 160:  # noqa: PLR2004 - a comment is announced at the beginning
        return said
    rest = said.text[found.end() :]
    if not rest.strip() or QUOTE.fullmatch(rest.strip(" .!")):
        return said
    put = aside(said, found.end(), len(said.text))
    # What only leads to the text is no report of what somebody said.
    return Said(_LEADS.sub(" : ", put.text), put.quotes)


def without_reason(text: str) -> tuple[str, str | None]:
    """A sentence without the reason that it gives, and the reason. A further command behind it stays."""
    if re.match(r"^\W*(?:why|what|which|who|how)\b", text, re.IGNORECASE):
        return text, None
    first = _FIRST.match(text)
    if first is not None:
        why = first["why"] or first["asked"]
        return (first["lead"] or "") + text[first.end() :], _TAIL.sub("", why).strip()
    found = _WHY.search(text)
    if found is None:
        return text, None
    why, rest = found["why"], ""
    for joined in _JOINED.finditer(why):
        if "verb" in WORDS.get(joined["verb"].lower(), {}) and _POINTS.search(why, joined.end()):
            why, rest = why[: joined.start()], " and " + why[joined.start("verb") :]
            break
    asks = "?" if text.rstrip().endswith("?") else ""
    return text[: found.start()] + rest + asks, _TAIL.sub("", why.rstrip("?")).strip() or None


def joined(sentences: Sequence[str]) -> list[str]:
    """The sentences, with those put to the one before that only go on with it, such as "due Friday"."""
    found: list[str] = []
    for one in sentences:
        if found and _CONTINUES.match(one) and "?" not in found[-1]:
            found[-1] = f"{found[-1].rstrip('.!; ')}, {one}"
        else:
            found.append(one)
    return found
