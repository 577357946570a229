"""Whole ways of saying something that are read as another, which says the same in the planner's own words.

Each stands at the beginning of a sentence or is a fixed turn of phrase. None makes an order of a question: what ends
with a question mark is left as it is, but for turns that mean the same there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Change: TypeAlias = str | Callable[[re.Match[str]], str]

_ORDINALS: Final = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    *("twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth", "twenty-fifth", "twenty-sixth"),
    *("twenty-seventh", "twenty-eighth", "twenty-ninth", "thirtieth", "thirty-first"),
)
_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\b"
)
_VALUED: Final = (
    r"(?:amount|budget|value|price|cost|deadline|due date|end date|planned end|start date|planned start|title|name|"
    r"description|owner|vendor|supplier|contractor|assignee|e-?mail(?: address)?)"
)
_CODE: Final = r"[a-z][a-z0-9]{0,9}-[0-9]{1,6}"
_MONEY: Final = (
    r"(?:(?:eur|usd|chf|gbp|€|\$|£) ?)?[0-9][0-9.,' ]*(?:k|m|mn|thousand|million)?"
    r"(?: ?(?:eur|euros?|usd|dollars?|chf|gbp|€|\$|£))?"
)
_DAY: Final = rf"(?:the )?[0-9]\S*(?: \S+){{0,3}}|(?:next |this )?\w+day(?: \S+){{0,3}}|{_MONTH}.*"


def _read(pattern: str, change: Change) -> tuple[re.Pattern[str], Change]:
    return re.compile(pattern, re.IGNORECASE), change


_EVERYWHERE: Final = (
    # "the first of March"
    _read(
        rf"\b({'|'.join(reversed(_ORDINALS))}) of (?={_MONTH})",
        lambda found: f"{_ORDINALS.index(found[1].lower()) + 1} ",
    ),
    _read(
        r"\b(everything|everyone|anything|all(?: \w+){0,3}|(?:every|each) \w+) (?:but|save|bar|minus) ", r"\1 except "
    ),
    _read(
        r"\b(in|to|for|under|into) the (?!same\b|other\b|whole\b|current\b|next\b|new\b)"
        r"((?:\w+ ){1,3})project\b(?! \w)",
        r"\1 project \2",
    ),
    _read(rf"\bthe (?:end|finish) of (?={_CODE})", "the deadline of "),
    _read(r"\b(phase|stage|part|section|lot) ([0-9]+) of (?:the )?(\w+(?: \w+)?)(?=[.!]*$)", r"\3 \1 \2"),
)
_BEGINNING: Final = (
    _read(r"^(?:remind|tell) me,? (?=(?:what|who|whose|when|where|which|how) )", ""),
    _read(
        r"^(?:thanks|thank you|thx|cheers)\b[,.! ]*(?:that|this|it)(?:'s| is| was| has)? \w+(?: \w+)?[.!]*$", "thanks"
    ),
    _read(r"^say (?:yes|ok|okay|aye|no) to ", "approve "),
    _read(r"^(?:we|i)(?:'ve| have)? (?:now |just |finally )?decided to ", "please "),
)
_SAID: Final = (
    _read(r"^(?:i'll|i will|let me) (?:take(?: over| on)?|handle) (.+?)[.!]*$", r"assign \1 to me"),
    _read(
        r"^give \w+(?: \w+)? (?:time )?(?:until|till) (.+?) (?:for|to (?:do|finish|complete)) (.+?)[.!]*$",
        r"set the due date of \2 to \1",
    ),
    _read(r"^describe (.+?) as ?: *", r"describe \1 as "),
    _read(r"^take (?-i:[A-Z]\w+(?: [A-Z]\w+)?) off ((?!hold\b).+?)[.!]*$", r"remove the owner from \1"),
    _read(rf"^(?:start|begin) (.+?) (?:on|from) ({_DAY})[.!]*$", r"set the planned start of \1 to \2"),
    _read(
        rf"^(?:the )?({_VALUED}) (?:of|for) (.+?) (?:is now|should (?:now )?be|is to be) "
        r"(?!\w+ed to\b|(?:set|put) )(.+?)[.!]*$",
        r"set the \1 of \2 to \3",
    ),
    _read(
        rf"^(.+?) (?:must|has to|have to|needs? to) be (?:done|finished|completed?|ready) by ({_DAY})[.!]*$",
        r"set the due date of \1 to \2",
    ),
    _read(rf"^(?:todo|to-do|to do|task) (?:for|on|in) ({_CODE}): *(.+)$", r"add a task to \1: \2"),
    _read(rf"^(?!do\b|don't\b)(.+?),? (?:and |but )?not (?:the )?{_CODE}[.!]*$", r"\1"),
    _read(
        rf"^({_CODE})(?:'s)? ({_VALUED}) (?:is now|should (?:now )?be|is to be) (?!\w+ed to\b|(?:set|put) )(.+?)[.!]*$",
        r"set the \2 of \1 to \3",
    ),
    _read(r"^(.{1,80}?) (?:should|shall|is to) be (?:called|named|renamed(?: to)?) (.+)$", r"rename \1 to \2"),
    _read(
        rf"^(.{{1,80}}?) is (?:now )?due (?:on |by )?({_DAY}|in \S+ (?:days?|weeks?|months?))[.!]*$",
        r"set the due date of \1 to \2",
    ),
    _read(
        rf"^({_CODE}):? (hold|pause|suspend|cancel|submit|complete|close|finish|start|activate|resume|reopen)[.!]*$",
        r"\2 \1",
    ),
    _read(
        r"^(?:leave|keep) (.{1,80}?) (?:on hold|in draft|in review|active|open|as (?:it|they) (?:is|are))[.!]*$",
        r"don't touch \1",
    ),
    _read(r"^i(?:'m| am) (?:now )?(?:starting|beginning)(?: work)?(?: on| with)? (.+?)[.!]*$", r"start \1"),
    _read(rf"^(.{{1,80}}?) (?:now )?costs (?:now )?({_MONEY})[.!]*$", r"set the amount of \1 to \2"),
    _read(rf"^({_CODE}):? ({_MONEY})[.!]*$", r"set the amount of \1 to \2"),
    _read(rf"^({_CODE}):? (owner|vendor|assignee):? ([^\W\d_]\S*(?: [^\W\d_]\S*)?)[.!]*$", r"set the \2 of \1 to \3"),
    _read(
        rf"^({_CODE}):? (?:end|deadline|due|due date):? (?=\S*[0-9])(\S+(?: \S+){{0,3}}?)[.!]*$",
        r"set the deadline of \1 to \2",
    ),
)
_PLEASE: Final = re.compile(r"^(?:please|pls|plz|kindly|ok|okay|so|and),? +", re.IGNORECASE)


def in_other_words(sentence: str) -> str:
    """The sentence as the planner reads it."""
    for pattern, change in _EVERYWHERE:
        sentence = pattern.sub(change, sentence)
    polite = _PLEASE.match(sentence)
    head, rest = (sentence[: polite.end()], sentence[polite.end() :]) if polite else ("", sentence)
    patterns = _BEGINNING if rest.rstrip().endswith("?") else (*_BEGINNING, *_SAID)
    for pattern, change in patterns:
        rest = pattern.sub(change, rest)
    return head + rest
