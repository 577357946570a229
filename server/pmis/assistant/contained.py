"""What an answer may hold when it is shown: no picture, no address outside PMIS, nothing invisible.

Titles, comments and what a model says were written by others. A picture or a link in them would tell its host what the
answer is about, and who reads it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_LONGEST: Final = 20_000
_PICTURE: Final = re.compile(r"!\[([^\]\n]{0,300})\]\([^)\n]{0,2000}\)")
_LINK: Final = re.compile(r"\[([^\]\n]{0,300})\]\(\s*<?([^)\s>]{0,2000})[^)\n]{0,300}\)")
_REFERENCE: Final = re.compile(r"^[ ]{0,3}\[[^\]\n]{1,300}\]:.*$", re.MULTILINE)
_TAG: Final = re.compile(r"</?[a-zA-Z!][^<>]{0,2000}>?")
_ADDRESS: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,20}:(?://|\\\\)|(?<![\w@.])www\.|(?<!\w)//(?=\w)|\b(?:data|javascript|vbscript|mailto):)"
    r"[^\s<>\"'`)\]]*",
    re.IGNORECASE,
)
_REMOVED: Final = "[address removed]"


def contained(text: str, public: str) -> str:
    """The text without what could carry it elsewhere; addresses below `public` stay."""
    plain = visible(text[:_LONGEST])
    plain = _PICTURE.sub(r"\1", plain)
    plain = _LINK.sub(lambda found: f"{found[1]} {found[2]}" if _is_own(found[2], public) else found[1], plain)
    plain = _REFERENCE.sub("", plain)
    plain = _TAG.sub("", plain)
    return _ADDRESS.sub(lambda found: found[0] if _is_own(found[0], public) else _REMOVED, plain)


def visible(text: str) -> str:
    """The text with every character that shows nothing, and changes what others show, written out."""
    return "".join(_visible(one) for one in text)


def _is_own(address: str, public: str) -> bool:
    return bool(public) and (address == public or address.startswith((f"{public}/", f"{public}?", f"{public}#")))


def _visible(one: str) -> str:
    """The character, or its name where it is one that shows nothing and changes what others show."""
    if one == "\n" or unicodedata.category(one) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
        return one
    return " " if one in "\t\r\u2028\u2029" else f"\\u{ord(one):04x}"
