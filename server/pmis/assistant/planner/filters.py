"""What narrows a list or a total: statuses, people, vendors, amounts, dates, words, as the API's filters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from pmis.assistant.planner.amounts import as_text, currency_named
from pmis.assistant.planner.asking import AskBackError, unknown, which
from pmis.assistant.planner.changes import a_day, status_of, vendor
from pmis.assistant.planner.dates import Day, Shift, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmis.assistant.plan import Named
    from pmis.assistant.planner.items import Item
    from pmis.assistant.planner.turn import Turn

_LATE: Final = re.compile(
    r"\b(?:overdue|late|delayed|past due|behind(?: schedule)?|expired|overran|missed|past (?:its|their|"
    r"the) (?:deadline|due date|end date|date)s?|should (?:already )?(?:have been|be) (?:done|finished|"
    r"completed)(?: by now)?)\b"
)
_MORE: Final = re.compile(
    r"(?:over|above|more than|greater than|bigger than|larger than|higher than|exceeding|exceeds?|beyond|>|"
    r"costing more than|north of|in excess of)\s*$"
)
_FROM: Final = re.compile(
    r"(?:at least|from|starting at|minimum(?: of)?|min|>=|no less than|not less than|not under|not below)\s*$"
)
_LESS: Final = re.compile(r"(?:under|below|less than|smaller than|lower than|cheaper than|<|fewer than)\s*$")
_UP_TO: Final = re.compile(
    r"(?:at most|up to|maximum(?: of)?|max|<=|no more than|not more than|not over|not above|within)\s*$"
)
_BEFORE: Final = re.compile(r"(?:before|earlier than|prior to)\s*(?:the )?$")
_UNTIL: Final = re.compile(
    r"(?:by|until|till|up to|no later than|not later than|through|latest|at the latest|within|to)\s*(?:the )?$"
)
_AFTER: Final = re.compile(r"(?:after|later than|beyond|past)\s*(?:the )?$")
_SINCE: Final = re.compile(r"(?:from|since|starting|as of|not before|on or after)\s*(?:the )?$")
_WORDED: Final = re.compile(
    r"(?:about|containing|contain|contains|matching|mentioning|named|called|titled|like|for|with|regarding|"
    r"concerning|on|to do with|related to|relating to|search|find|the word|words?|text|title|"
    r"in the title)\s*(?:the |a |an |word )*$"
)
_CURRENCY: Final = re.compile(
    r"\b(?:in|with|currency(?: is| of)?) (?P<one>[A-Z]{3}|[Ee]uros?|EUROS?|(?:US )?[Dd]ollars?|[Pp]ounds?|eur|"
    r"usd|gbp|chf)\b|\b(?P<two>EUR|USD|GBP|CHF|eur|usd|gbp|chf|euro|dollar) (?:packages|contracts|amounts)"
)
_OF_ME: Final = re.compile(
    r"\b(?:tasks?|packages?|work|anything|to-?dos?|things?|items?|ones?) (?:for|of|on|with) me\b|"
    r"\b(?:assigned to|owned by|belong(?:s|ing)? to) me\b|\bme as\b"
)
_AS_I: Final = re.compile(r"\b(?:do|did|have|am|are) i\b|\bi(?:'m| am| have| own| manage| lead)\b")
_MAY_I: Final = re.compile(
    r"\b(?:can|could|may|would|do|did|should|have|what|if|that|see) i "
    r"(?:see|get|have a (?:look|list|view|report|summary)|know|look|do\b|use)(?! have to)"
)
_SMALL_NUMBER: Final = 100
"""Below this, a bare number counts records, and is no amount."""
_STEP: Final = Decimal("0.0001")
"""The least by which two amounts differ: "over" is at least that much more."""
_SORTS: Final = (
    (re.compile(r"\b(?:biggest|largest|highest|most expensive|top|most valuable|costliest|greatest)\b"), "-amount"),
    (re.compile(r"\b(?:smallest|lowest|cheapest|least expensive)\b"), "amount"),
    (re.compile(r"\b(?:newest|latest|most recent|recently (?:created|added)|last (?:created|added))\b"), "-created_at"),
    (re.compile(r"\b(?:oldest|first created)\b"), "created_at"),
)
_LIMIT: Final = re.compile(
    r"\b(?:top|first|last|the|latest|newest|biggest|largest|highest|oldest|smallest|"
    r"cheapest) (?P<count>[0-9]{1,2}|two|three|four|five|six|seven|eight|nine|ten)\b(?! (?:day|week|month|"
    r"year|%|percent|eur|million|k\b))"
)


@dataclass
class Filters:
    """The filters of a list of one type, taken from the parts of a question. `used` are the parts that became one."""

    turn: Turn
    kind: str
    text: str
    items: Sequence[Item]
    found: dict[str, str] = field(default_factory=dict[str, str])
    project: Named | None = None
    used: set[int] = field(default_factory=set[int])

    def read(self) -> Filters:  # noqa: C901, PLR0912 - one case for each kind of part
        """Take what can be taken; raises AskBackError for what is not clear."""
        self.low = self.text.lower()
        self.project = self.turn.project
        self._statuses()
        if self.kind == "task" and self._is_mine_by_words():
            self.found["assignee_id"] = str(self._me().id)
        for place, item in enumerate(self.items):
            before = self.low[: item.start].rstrip() + " "
            if item.kind == "project":
                if len(item.value) > 1:
                    raise which(item.text, item.value)
                self.project = item.value[0]
            elif item.kind in ("person", "address") or item.can("pronoun", "me", "my"):
                self._person(item)
            elif item.kind == "amount" and self.kind == "package" and not self._is_count(item):
                self._amount(place, item, before)
            elif item.kind == "date":
                self._date(place, item, before)
            elif item.kind in ("code", "number", "name", "quote", "id"):
                self._record(item, before)
            elif item.can("pronoun", "it") and item.low in ("it", "its") and self.kind in ("task", "approval"):
                name = "package_id" if self.kind == "task" else "target_id"
                self.found[name] = str(self.turn.meant(item, ("package",))[0].named.id)
            else:
                continue
            self.used.add(place)
        named = _CURRENCY.search(self.text)
        if named and self.kind == "package":
            currency = currency_named(named["one"] or named["two"])
            if currency:
                self.found["currency"] = currency
        if self.is_late():
            self._late()
        return self

    def is_late(self) -> bool:
        """Whether only what is late is wanted."""
        return _LATE.search(self.low) is not None

    def sort(self) -> str | None:
        """The order that was asked for, if the API has it."""
        orders = {"package": ("amount", "created_at"), "task": ("created_at",)}.get(self.kind, ())
        return next((sort for form, sort in _SORTS if form.search(self.low) and sort.lstrip("-") in orders), None)

    def limit(self) -> int | None:
        """How many were asked for."""
        from pmis.assistant.planner.numbers import small  # noqa: PLC0415 - one use

        found = _LIMIT.search(self.low)
        if found is None:
            one = re.search(
                r"\b(?:which|what|the) (?:package|contract)\b.*\b(?:biggest|largest|highest|most|smallest|"
                r"lowest|cheapest)\b|\b(?:biggest|largest|cheapest|smallest|most expensive) (?:package|contract)\b",
                self.low,
            )
            return 1 if one and self.sort() else None
        return max(1, small(found["count"])) if self.sort() else None

    def _me(self) -> Named:
        known = self.turn.knowledge
        mine = next((one.named for one in known.people if one.named.id == known.me), None)
        if mine is None:
            raise AskBackError("You have no role in a project, so nothing is yours.")
        return mine

    def _is_mine_by_words(self) -> bool:
        return (
            re.search(
                r"\b(?:do i (?:have|need) to do|assigned to me|on my plate|for me to do|should i (?:do|"
                r"work on)|my to-?dos?|am i (?:working|supposed))\b",
                self.low,
            )
            is not None
        )

    def _is_count(self, item: Item) -> bool:
        if not item.money.is_bare:
            return False
        is_small = item.money.value is not None and item.money.value < _SMALL_NUMBER
        return _LIMIT.search(self.low) is not None or (is_small and not self._compared(self.low[: item.start]))

    def _compared(self, before: str) -> bool:
        before = before.rstrip() + " "
        return any(form.search(before.rstrip()) for form in (_MORE, _FROM, _LESS, _UP_TO))

    def _statuses(self) -> None:
        wanted: list[str] = []
        known = self.turn.knowledge.statuses(self.kind) if self.kind in ("package", "task") else []
        for place, item in enumerate(self.items):
            if not item.can("status") or not known or (item.can("field") and not item.can("past")):
                continue
            if item.low in ("review", "hold", "submission") and item.can("verb") and place == 0:
                continue
            if item.low == "to do" and re.search(
                r"\b(?:have|need|needs|got|supposed|left|things?|anything|something|much) to do\b", self.low
            ):
                continue
            key = item.senses["status"]
            unfinished = self.turn.knowledge.unfinished(self.kind)
            some = (
                unfinished
                if key == "open"
                else [one for one in known if one not in unfinished]
                if key == "ended" or (item.low == "closed" and self.kind == "package" and "not" not in self.low)
                else [status for status in [status_of(self.turn, key, self.kind)] if status]
            )
            if item.low == "closed" and self.kind == "package":
                some = ["completed"] if "completed" in known else some
            if re.search(
                r"\b(?:not|n't|neither|nor|except|excluding|without|other than|but not|aren't|isn't|not yet|"
                r"never|no longer)(?: yet| been| yet been| those| the)?\s*$",
                self.low[: item.start],
            ) and not item.low.startswith("not"):
                some = [one for one in known if one not in some]
            if not some:
                continue
            wanted += some
            self.used.add(place)
        if wanted:
            self.found["status"] = ",".join(dict.fromkeys(wanted))

    def _person(self, item: Item) -> None:
        name = {"package": "owner_id", "task": "assignee_id"}.get(self.kind)
        if item.can("pronoun"):
            if not self._means_me(item):
                return
            person = self._me()
        else:
            projects = [self.project.id] if self.project else []
            person = self.turn.person(item, projects)
        if name is not None:
            self.found[name] = str(person.id)
        elif self.kind == "approval":
            self.found["proposer"] = f"person:{person.id}"

    def _means_me(self, item: Item) -> bool:
        """Whether records of whoever asks are wanted, and "me" is not merely whom they are to be shown to."""
        if item.low in ("us", "we", "our"):
            return False
        if item.low == "me":
            return _OF_ME.search(self.low) is not None
        if item.low in ("i", "i'm"):
            return _AS_I.search(self.low) is not None and _MAY_I.search(self.low) is None
        return True

    def _amount(self, place: int, item: Item, before: str) -> None:
        said = item.money
        if said.value is None:
            raise AskBackError(f"I cannot tell which amount “{said.said.strip()}” is. Please write it like 1,234.50.")
        before = before.rstrip()
        if re.search(r"\bbetween\s*$", before) or (re.search(r"\bfrom\s*$", before) and self._next_amount(place)):
            self.found["amount_min"] = as_text(said.value)
        elif re.search(r"(?:\band|\bto|-)\s*$", before) and "amount_min" in self.found:
            self.found["amount_max"] = as_text(said.value)
        elif _MORE.search(before):
            self.found["amount_min"] = as_text(said.value + _STEP)
        elif _LESS.search(before):
            self.found["amount_max"] = as_text(said.value - _STEP)
        elif _FROM.search(before) or re.match(
            r"\s*(?:or|and) (?:more|above|over|up|higher)|\s*\+", self.low[item.end :]
        ):
            self.found["amount_min"] = as_text(said.value)
        elif _UP_TO.search(before) or re.match(r"\s*(?:or|and) (?:less|below|under|lower)", self.low[item.end :]):
            self.found["amount_max"] = as_text(said.value)
        else:
            self.found["amount_min"] = self.found["amount_max"] = as_text(said.value)
        if said.currency:
            self.found["currency"] = said.currency

    def _next_amount(self, place: int) -> bool:
        return any(item.kind == "amount" for item in self.items[place + 1 : place + 4])

    def _date(self, place: int, item: Item, before: str) -> None:
        names = {"package": ("planned_end_from", "planned_end_to"), "task": ("due_from", "due_to")}.get(self.kind)
        if names is None:
            return
        first, last = self._days(item)
        before = before.rstrip()
        pair = self._previous_date(place) and re.search(r"(?:\band|\bto|-|\buntil|\btill|\bthrough)$", before)
        if pair and names[0] in self.found:
            self.found[names[1]] = last.isoformat()
        elif re.search(r"\b(?:between|from)$", before) and self._next_date(place):
            self.found[names[0]] = first.isoformat()
        elif _BEFORE.search(before):
            self.found[names[1]] = (first - timedelta(days=1)).isoformat()
        elif _AFTER.search(before):
            self.found[names[0]] = (last + timedelta(days=1)).isoformat()
        elif _SINCE.search(before):
            self.found[names[0]] = first.isoformat()
        elif _UNTIL.search(before) and not isinstance(item.value, Span):
            self.found[names[1]] = last.isoformat()
        else:
            self.found[names[0]], self.found[names[1]] = first.isoformat(), last.isoformat()

    def _days(self, item: Item) -> tuple[date, date]:
        when = item.value
        if isinstance(when, Span):
            return when.first, when.last
        if isinstance(when, Shift):
            raise AskBackError(f"From when on do you mean “{item.text.strip()}”?", not_understood=[item.text])
        soon = item.low.startswith("within") or (item.low.startswith("in ") and "due" in self.low)
        if isinstance(when, Day) and soon:
            return self.turn.today, when.day
        day = a_day(item)
        return day, day

    def _previous_date(self, place: int) -> bool:
        return any(item.kind == "date" for item in self.items[max(0, place - 3) : place])

    def _next_date(self, place: int) -> bool:
        return any(item.kind == "date" for item in self.items[place + 1 : place + 4])

    def _record(self, item: Item, before: str) -> None:
        turn = self.turn
        said = item.value if item.kind == "quote" else item.text
        types = {one.type for one in item.records}
        if (
            self.kind == "package"
            and "party" in types
            and (
                types == {"party"}
                or re.search(
                    r"\b(?:vendor|supplier|contractor|of|by|with|from|to|for|does|has|have|is)\s*$", before.rstrip()
                )
            )
        ):
            self.found["vendor_id"] = str(vendor(turn, item, self.project.id if self.project else None).named.id)
        elif self.kind == "task" and ("package" in types or item.kind in ("code", "number")):
            self.found["package_id"] = str(turn.record(item, ("package",), kind="package").named.id)
        elif self.kind == "approval" and (types or item.kind in ("code", "number")):
            self.found["target_id"] = str(turn.record(item).named.id)
        elif item.kind in ("code", "number", "id"):
            turn.record(item)
        elif self.kind == "package" and item.kind == "name" and currency_named(str(said)):
            self.found["currency"] = str(currency_named(str(said)))
        elif _WORDED.search(before.rstrip()) or item.kind == "quote" or types:
            self.found["q"] = str(said)[:200]
        else:
            kind = "vendor" if re.search(r"\b(?:vendor|supplier|contractor)\s*$", before.rstrip()) else "record or word"
            raise unknown(str(said), kind)

    def _late(self) -> None:
        if self.kind == "task":
            self.found["overdue"] = "true"
            if set(self.found.get("status", "").split(",")) == set(self.turn.knowledge.unfinished("task")):
                del self.found["status"]
        elif self.kind == "package":
            self.found["planned_end_to"] = (self.turn.today - timedelta(days=1)).isoformat()
            self.found.setdefault("status", ",".join(self.turn.knowledge.unfinished("package")))
