"""What a sentence that asks something asks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, cast

from pmis.assistant.plan import (
    AboutRecord,
    ChangesSince,
    Decisions,
    FieldHistory,
    ListOf,
    Totals,
    WaitingFor,
    WhatCanYouDo,
)
from pmis.assistant.planner.asking import AskBackError, not_clear, unknown, which
from pmis.assistant.planner.changes import field_of, status_of
from pmis.assistant.planner.dates import Day, Shift, Span
from pmis.assistant.planner.filters import Filters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pmis.assistant.plan import Grouping, ListedType, Named, Question
    from pmis.assistant.planner.items import Item
    from pmis.assistant.planner.knowledge import Record
    from pmis.assistant.planner.turn import Turn

HELP: Final = re.compile(
    r"^\W*(?:help|help me|\?+|menu|commands?|examples?|usage|man|manual|instructions|options)\W*$|"
    r"\bwhat (?:all |else )?(?:can|could|do) (?:you|i|we) (?:do|ask|say|help|offer|type|understand|know)\b(?! about)|"
    r"\bwhat (?:are you (?:able|capable|for|good)|can this|does this|should i (?:say|ask|type|write))|"
    r"\bwhat you can do\b|\bhow (?:do|can|does|should) (?:i|you|this|it|one|we) (?:use|work|operate|help|talk|"
    r"ask|start)|"
    r"\bwho are you\b|\bwhat are you\b|\byour (?:abilities|capabilities|commands|features|skills|functions)\b|"
    r"\bcan you help(?: me)?\W*$|\b(?:i )?need help\W*$|\bhow can you help|\bwhich (?:commands|questions)\b|"
    r"\b(?:show|give|tell|list).{0,12}\b(?:examples|help|commands)\b"
)
_MINE: Final = (
    r"(?:my (?:approval|decision|signature|sign-?off|attention|input|confirmation|review|ok|okay|vote|"
    r"action|response|consent|agreement|say|go-?ahead|yes)s?)"
)
_WAITING: Final = re.compile(
    rf"\b(?:wait|waits|waiting|pending|open|outstanding|left|anything|something|needs?|needed|needing|"
    rf"requires?|required|requiring|awaits?|awaiting|sitting|stuck|approvals?|proposals?|requests?|lies|lying|"
    rf"what|which)\b.{{0,60}}?\b(?:for me\b(?! to (?:do|work))|on me\b|{_MINE}|from me\b|on my (?:desk|plate|"
    rf"table|side))|"
    rf"\b(?:do|must|should|can|have) i (?:have |need |got |still have |still need )?(?:to )?(?:approve|decide|"
    rf"sign|confirm|vote)\b|"
    rf"\bmy (?:open |pending |outstanding |waiting |current |own )*(?:approvals?\b|inbox|decisions|queue|"
    rf"approval (?:queue|list|requests|inbox))|"
    rf"\b(?:what|which|anything|something|things?|approvals|have|is there|are there|need|got|left|much|"
    rf"many)\b.{{0,30}}\bto (?:approve|decide|sign off|sign|confirm)\b|"
    rf"\bawait(?:s|ing)? (?:me|{_MINE})|^\W*(?:the )?(?:inbox|approvals queue|approval queue)\W*$|"
    rf"\bin my (?:inbox|queue)\b|\b(?:i|am i) (?:blocking|holding up)\b|\bi (?:have|need|got) to (?:approve|"
    rf"decide|sign)\b|\bi should (?:approve|decide|sign)\b|\bdecisions? (?:do|does|of|for) (?:i|me|mine)\b|"
    rf"\bneeds? me\b"
)
_YES: Final = (
    r"approv(?:ed?|es|ing|al|als)|approver|sign(?:ed|s)? off|signed(?: off)?(?: on)?|okayed|ok'd|"
    r"authori[sz]ed|agreed|accept(?:ed|s)?|green-?lit|gave (?:the |its |their |his |her )?(?:green light|"
    r"go-?ahead|approval|ok|consent)|said yes|consented|confirmed|endorsed|voted for"
)
_NO: Final = (
    r"reject(?:ed|s|ing)?|rejections?|declin(?:ed?|es)|refus(?:ed?|es)|den(?:ied|y|ies)|turned down|"
    r"vetoed|said no|disapproved|blocked the approval|voted against|shot down|knocked back"
)
_REVISE: Final = r"request(?:ed)? changes|asked for changes|wanted changes|demanded changes|required changes"
_OTHER: Final = r"decid(?:ed?|es)|decisions?|voted|verdicts?|deciders?"
_VERDICT: Final = re.compile(rf"\b(?:(?P<revise>{_REVISE})|(?P<no>{_NO})|(?P<yes>{_YES})|(?P<other>{_OTHER}))\b")
_WHO: Final = re.compile(
    r"\b(?:who|whom|whose|when|by whom|anyone|anybody|somebody|someone|was|were|has|have|had|did|"
    r"which (?:person|people|admin|executive|approver)|approvers?|deciders?|on what (?:day|date)|what (?:day|"
    r"date|time)|why|how was|decisions?|verdicts?|votes?|name)\b"
)
_LEADS: Final = {
    "award": "awarded",
    "cancellation": "cancelled",
    "cancelling": "cancelled",
    "canceling": "cancelled",
    "activation": "active",
    "completion": "completed",
    "submission": "submitted",
    "awarding": "awarded",
    "hold": "on_hold",
    "closing": "completed",
    "closure": "completed",
    "starting": "active",
    "start": "active",
    "suspension": "on_hold",
    "kick-off": "active",
}
_OVER_TIME: Final = re.compile(
    r"\b(?:history|evolution|evolve[ds]?|previous(?:ly)?|former(?:ly)?|past (?:values?|owners?|vendors?|"
    r"amounts?|deadlines?|statuses)|earlier (?:values?|owners?|vendors?|amounts?|deadlines?|statuses)|"
    r"original(?:ly)?|over time|so far|timeline|developed|development|"
    r"changes? (?:of|to|in|made to|on)|how (?:did|has|have|was|were|often|many times)|"
    r"(?:who|when|why|what time|how often|has|have|was|were|did)\b.{0,80}\b(?:chang(?:ed?|es)|set|updated?|"
    r"modif(?:y|ied)|edit(?:ed)?|mov(?:ed?|es)|rais(?:ed?|e)|increased?|lower(?:ed)?|reduced?|altered?|"
    r"adjusted?|touched|pushed|postponed|extended|reassigned|renamed|slipp?(?:ed)?|cut|fixed|corrected)|"
    r"used to be|what (?:was|were)\b.{0,60}\b(?:before|previously|originally|initially|earlier|at first|"
    r"last (?:week|month|year|time)|at the (?:start|beginning))|was the (?:first|initial|old|previous|last)|"
    r"old (?:values?|owners?|vendors?|amounts?|deadlines?)|changed (?:the|its)|trace|track record|trail|"
    r"all the (?:owners|vendors|amounts|deadlines|values))\b"
)
_CHANGED: Final = re.compile(
    r"\b(?:chang(?:ed?|es|ing)|happen(?:ed|s|ing)?|new\b|news|updat(?:ed?|es)|activit(?:y|ies)|going on|"
    r"been up to|different|modified|edited|occurred|catch me up|events?|did .{1,40} (?:do|change|touch|update|"
    r"work on|edit|propose|create|add)|what has .{1,40} (?:done|been doing)|history|timeline|log|"
    r"progress(?:ed)? since|moved|developments?|added|created|deleted)\b"
)
_TOTAL: Final = re.compile(
    r"\b(?:totals?|totalling|sum|sums|sum up|altogether|overall|combined|in all|together|tied up|"
    r"aggregate[ds]?|add up|adds up|add(?:ed)? together|breakdown|broken down|break (?:it |them |that )?down|"
    r"grouped?|how much (?:money|budget|value|do|did|does|have|has|are|were|in|is (?:in|on|tied|committed|"
    r"budgeted|spent|planned|awarded|the (?:total|sum|overall))|worth|volume)|total (?:value|amount|budget|"
    r"cost)|volume|portfolio|distribution|statistics|stats|split)\b"
)
_GROUP: Final = re.compile(
    r"\b(?:by|per|for each|in each|for every|each|group(?:ed)? by|and|,|split by|according to|sorted by|"
    r"across|&|for the different)\s+(?:each |every |the |different )?(?P<what>status(?:es)?|states?|stages?|"
    r"phases?|currenc(?:y|ies)|vendors?|suppliers?|contractors?|compan(?:y|ies)|owners?|managers?|types?|"
    r"kinds?|categor(?:y|ies)|package types?|projects?|assignees?|person|people)\b"
)
_GROUPS: Final = (
    ("statu", "status"),
    ("sta", "status"),
    ("phase", "status"),
    ("curr", "currency"),
    ("vendor", "vendor"),
    ("suppl", "vendor"),
    ("contr", "vendor"),
    ("compan", "vendor"),
    ("owner", "owner"),
    ("manager", "owner"),
    ("type", "package_type"),
    ("package t", "package_type"),
    ("kind", "package_type"),
    ("categ", "package_type"),
    ("project", "project"),
    ("assign", "assignee"),
    ("pe", "assignee"),
)
_COUNT: Final = re.compile(r"\b(?:how many|number of|count|how much of|amount of (?:packages|tasks)|quantity of)\b")
_ENTERED: Final = re.compile(r"\b(?:when|since when|how long|who|why|by whom|what made)\b")
_WONDERS: Final = re.compile(
    r"\b(?:can|could|should|shall|may|might|would|will|must|what (?:happens|would|if)|is it (?:possible|ok|"
    r"okay|allowed)|am i (?:allowed|able)|are we (?:allowed|able)|possible|allowed|what about)\b"
)
_LAST: Final = 7
"""How many days back "recently" goes."""
_POINTING: Final = frozenset({"code", "number", "id"})
_LACKING: Final = re.compile(
    r"\b(?:without|lacking|missing|with no|(?:have|has|having) no|unassigned|unowned|"
    r"(?:don't|doesn't|do not|does not) have)\b"
)
_LACKED: Final[Mapping[str, Mapping[str, str]]] = {
    "package": {
        "owner": "owner_id",
        "assignee": "owner_id",
        "vendor": "vendor_id",
        "amount": "amount",
        "end": "planned_end",
        "due": "planned_end",
        "package_type": "package_type",
    },
    "task": {"owner": "assignee_id", "assignee": "assignee_id", "end": "due_date", "due": "due_date"},
}
"""The columns of what a list can be asked to lack, by kind and field."""
FIRST_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)
_PLURAL: Final = ("package", "task", "party", "vendor", "customer", "approval")


class Asked:
    """Reads one question."""

    def __init__(self, turn: Turn, text: str, items: Sequence[Item]) -> None:
        """`items` are the parts of the text."""
        self.turn = turn
        self.text = text
        self.low = text.lower()
        self.items = list(items)

    def questions(self) -> list[Question]:
        """What is asked; raises AskBackError."""
        if HELP.search(self.low) and not [item for item in self._pointers() if not item.can("pronoun")]:
            return [WhatCanYouDo()]
        if (
            _WAITING.search(self.low)
            and not [item for item in self._pointers() if not item.can("pronoun")]
            and not re.search(r"\bmy tasks\b|\btasks?\b", self.low)
        ):
            return [WaitingFor(self._project(), count=_COUNT.search(self.low) is not None)]
        for way in (
            self._decisions,
            self._history,
            self._entered,
            self._changes,
            self._totals,
            self._lists,
            self._about,
        ):
            found = way()
            if found:
                return found
        unknowns = [item for item in self.items if item.kind in ("name", "quote")]
        if unknowns:
            raise unknown(unknowns[0].value if unknowns[0].kind == "quote" else unknowns[0].text)
        raise not_clear([self.text])

    # --- what is named ---

    def _pointers(self) -> list[Item]:
        """The items that point at a package, task or party."""
        return [
            item
            for item in self.items
            if item.kind in ("code", "number", "id", "ordinal") or item.records or item.can("pronoun", "it", "them")
        ]

    def _records(self, types: Sequence[str] = ("package", "task", "party")) -> list[Record]:
        """The records that the question is about; raises AskBackError when that is not clear."""
        found: list[Record] = []
        pointers = self._pointers()
        direct = [item for item in pointers if not item.can("pronoun")]
        if any(item.kind in _POINTING for item in direct):
            # "Who works on P-001": beside a code, a single word is no title.
            direct = [item for item in direct if item.kind != "name" or " " in item.text.strip()]
        for item in direct or pointers:
            if item.can("pronoun") or item.kind == "ordinal":
                if item.can("pronoun") and not self._stands_alone(item):
                    continue
                found += self.turn.meant(item, types)
            else:
                found.append(self._within(item, direct) or self.turn.record(item, self._types(item, types)))
        if len(direct) == 2 and len(found) == 2 and {one.type for one in found} == {"task", "package"}:  # noqa: PLR2004
            # "The task X of P-001" is about the task.
            task, package = sorted(found, key=lambda one: one.type != "task")
            if task.doc.get("package_id") == str(package.named.id):
                found = [task]
        unique = list({one.named.id: one for one in found}.values())
        for one in unique:
            self.turn.mention(one)
        return unique

    def _within(self, item: Item, others: Sequence[Item]) -> Record | None:
        """Of tasks that are called the same, the one of the package that is named beside it."""
        packages = {str(one.named.id) for other in others if other is not item for one in other.records}
        tasks = [one for one in item.records if one.type == "task" and one.doc.get("package_id") in packages]
        return tasks[0] if len(tasks) == 1 else None

    def _stands_alone(self, item: Item) -> bool:
        """Whether "this" or "that" is a record, and not the beginning of "this week" or "is that all"."""
        known = self.turn.topics or (self.turn.before and self.turn.before.records)
        return bool(known) or item.low in ("it", "its", "them")

    def _types(self, item: Item, types: Sequence[str]) -> Sequence[str]:
        """Of the types that the item could have, those that the words about it fit."""
        found = {one.type for one in item.records}
        if len(found) < 2:  # noqa: PLR2004 - nothing to choose
            return types
        if any(noun.can("noun", "task") for noun in self.items) and "task" in found:
            return ("task",)
        if re.search(r"\b(?:vendor|supplier|email|e-mail)\b", self.low) and "party" in found:
            return ("party",)
        if re.search(r"\b(?:amount|budget|vendor|cost|worth|award|package|how much)", self.low) and "package" in found:
            return ("package",)
        return types

    def _project(self) -> Named | None:
        for item in self.items:
            if item.kind == "project":
                if len(item.value) > 1:
                    raise which(item.text, item.value)
                return item.value[0]
        return self.turn.project

    def _fields(self, kind: str) -> list[str]:
        found: list[str] = []
        for item in self.items:
            name = item.senses.get("field") or ("vendor" if item.can("noun", "vendor") else None)
            if name is None:
                continue
            if name in ("due", "dates"):
                found += (
                    ["planned_start", "planned_end"]
                    if name == "dates" and kind == "package"
                    else [field_of("end", kind) or ""]
                )
            else:
                found.append(
                    "status"
                    if name == "status"
                    else field_of(name, kind) or name
                    if name in ("contacts", "bank_details")
                    else field_of(name, kind) or ("status" if name == "status" else "")
                )
        return list(dict.fromkeys(one for one in found if one))

    def _nouns(self) -> list[str]:
        return [item.senses["noun"] for item in self.items if item.kind == "word" and item.can("noun")]

    # --- the kinds of questions ---

    def _decisions(self) -> list[Question]:
        found = _VERDICT.search(self.low)
        if found is None or not _WHO.search(self.low) or not self._pointers():
            return []
        if re.match(r"\W*(?:can|could|should|shall|would|may|will|is|are|what|if)\b", self.low) and not re.search(
            r"\b(?:who|when|by whom|was|were|has|decision|verdict)\b", self.low
        ):
            return []
        verdict = (
            "request_changes" if found["revise"] else "reject" if found["no"] else "approve" if found["yes"] else None
        )
        if re.search(r"\b(?:or|and) (?:who )?(?:rejected|declined|approved|not)\b", self.low):
            verdict = None
        leads = next((status for word, status in _LEADS.items() if re.search(rf"\b{word}\b", self.low)), None)
        records = self._records(("package", "task", "party"))
        return [Decisions(record.named, cast("None", verdict), leads) for record in records]

    def _history(self) -> list[Question]:
        if not _OVER_TIME.search(self.low) or not self._pointers():
            return []
        if re.search(r"\bsince\b", self.low) and not any(item.can("field") for item in self.items):
            return []
        if not any(item.can("field") or item.can("noun", "vendor") for item in self.items):
            return []
        records = self._records()
        return [FieldHistory(record.named, name) for record in records for name in self._fields(record.type)]

    def _entered(self) -> list[Question]:
        """When, or by whom, a record came into a status."""
        if not _ENTERED.search(self.low) or not self._pointers():
            return []
        past = [item for item in self.items if item.can("past") or item.can("status")]
        if any(item.can("past", "create") for item in past):
            return []
        if not any(
            item.can("status")
            or item.can("past", "submit", "award", "start", "hold", "resume", "complete", "cancel", "block", "reopen")
            for item in past
        ):
            return []
        if re.search(
            r"(?<!since )\bwhen (?:will|is|are|should|can|does|do|must)\b|\bwho (?:should|can|could|will|must|"
            r"may|works|is working)\b",
            self.low,
        ):
            return []
        if re.search(r"\bwho (?:was|got|is)\b.{0,60}\bawarded\b|\bto whom\b|\bwho won\b", self.low):
            return [AboutRecord(record.named, ("vendor_id",)) for record in self._records(("package",))]
        return [FieldHistory(record.named, "status") for record in self._records(("package", "task"))]

    def _changes(self) -> list[Question]:
        if not _CHANGED.search(self.low):
            return []
        if (
            re.search(r"\bhow many\b|\b(?:new|added|created|updated)\b", self.low)
            and set(self._nouns()) & {"package", "task"}
            and not re.search(r"\bsince\b|\bwhat\b.{0,20}\b(?:changed|happened|new)\b|\bchanges\b", self.low)
        ):
            return []
        dates = [item for item in self.items if item.kind == "date"]
        pointers = [item for item in self._pointers() if not item.can("pronoun") or self._stands_alone(item)]
        if not re.search(
            r"\b(?:what|which|who|show|list|any|anything|tell|give|were|was|did|has|have|is|how|catch|recent|"
            r"latest|changes|news|activity|updates?|history|log|timeline|events)\b",
            self.low,
        ):
            return []
        if _WONDERS.match(self.low.strip()) and not dates:
            return []
        vague = re.search(
            r"\b(?:recent(?:ly)?|lately|latest|new|news|updates?|changes|activity|history|timeline|log|events|"
            r"going on|happen(?:ed|ing)?|changed|last|been up to|catch me up)\b",
            self.low,
        )
        if not dates and not vague:
            return []
        people = [item for item in self.items if item.kind == "person"]
        by = self.turn.person(people[0]) if people else None
        if by is None and re.search(
            r"\b(?:did|have|has) i\b|\bby me\b|\bmy (?:changes|activity|own changes)\b", self.low
        ):
            by = next((one.named for one in self.turn.knowledge.people if one.named.id == self.turn.knowledge.me), None)
        since, until = self._interval(dates, whole=bool(re.search(r"\b(?:history|timeline|log|ever)\b", self.low)))
        types = tuple(
            dict.fromkeys(
                "party" if noun in ("vendor", "customer") else noun for noun in self._nouns() if noun in _PLURAL
            )
        )
        about = [one.named for one in self._records()] if pointers else [None]
        if about == [None] and self._project() is not None:
            about = [self._project()]
        if about != [None]:
            types = ()
        return [ChangesSince(since, until, record, by, types) for record in about or [None]]

    def _interval(self, dates: Sequence[Item], *, whole: bool) -> tuple[datetime, datetime | None]:
        today = self.turn.today
        if not dates:
            return (FIRST_DAY if whole else self._midnight(today - timedelta(days=_LAST))), None
        first, last = self._days(dates[0])
        before = self.low[: dates[0].start].rstrip()
        if len(dates) > 1:
            _, last = self._days(dates[1])
            if re.search(r"\b(?:until|till|through|to|and|-)$", self.low[: dates[1].start].rstrip()):
                return self._midnight(first), self._midnight(last + timedelta(days=1))
        if re.search(r"\b(?:since|from|after|starting|as of)(?: the)?$", before) or last >= today:
            return self._midnight(first), None
        return self._midnight(first), self._midnight(last + timedelta(days=1))

    def _days(self, item: Item) -> tuple[date, date]:
        when = item.value
        if isinstance(when, Day):
            day = when.past or when.day
            return day, day
        if isinstance(when, Span):
            return when.first, when.last
        if isinstance(when, Shift):
            try:
                return when.applied(self.turn.today, -1) if when.sign is None else self.turn.today, self.turn.today
            except OverflowError:
                pass
        readings = " or ".join(f"{one.day} {one:%B %Y}" for one in getattr(when, "readings", ()))
        raise AskBackError(
            f"Is {item.text.strip()} the {readings}?"
            if readings
            else f"I do not know which day “{item.text.strip()}” is.",
            not_understood=[item.text],
        )

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.turn.zone).astimezone(UTC)

    def _totals(self) -> list[Question]:
        groups = self._groups()
        nouns = self._nouns()
        counted = _COUNT.search(self.low) is not None
        if not (_TOTAL.search(self.low) or (groups and (nouns or counted))):
            return []
        codes = [
            item
            for item in self._pointers()
            if any(one.type != "party" for one in item.records)
            or item.kind in ("code", "number")
            or item.can("pronoun")
        ]
        if codes:
            return []
        kind = "task" if "task" in nouns or "assignee" in groups else "package"
        if counted and not groups and not re.search(r"\b(?:amount|value|money|budget|cost)\b", self.low):
            return []
        filters = Filters(self.turn, kind, self.text, self._without_groups()).read()
        by = cast("tuple[Grouping, ...]", tuple(groups) or (("currency",) if kind == "package" else ("status",)))
        return [Totals(by, kind, filters.found, filters.project)]

    def _groups(self) -> list[str]:
        found: list[str] = []
        for one in _GROUP.finditer(self.low):
            joined = one[0].startswith(("and", ",", "&"))
            group = next((group for begin, group in _GROUPS if one["what"].startswith(begin)), None)
            if group and (not joined or found) and group not in found:
                found.append(group)
        return found

    def _without_groups(self) -> list[Item]:
        spans = [one.span("what") for one in _GROUP.finditer(self.low)]
        return [item for item in self.items if not any(item.start < end and start < item.end for start, end in spans)]

    def _lists(self) -> list[Question]:
        kinds = self._listed_types()
        if not kinds:
            return []
        lacked, text, items = self._lacked(kinds[0][0])
        found: list[Question] = []
        count = _COUNT.search(self.low) is not None
        for kind, extra in kinds:
            filters = Filters(self.turn, kind, text, items).read()
            wanted = {**filters.found, **extra, **lacked}
            if (
                kind == "approval"
                and "status" not in wanted
                and not re.search(r"\b(?:all|past|old|every|closed|applied|rejected|expired)\b", self.low)
            ):
                wanted["status"] = "confirmation_required,pending"
            if kind == "approval" and (
                ended := re.search(r"\b(applied|rejected|withdrawn|voided|expired)\b", self.low)
            ):
                wanted["status"] = ended[1]
            found.append(
                ListOf(cast("ListedType", kind), wanted, filters.project, filters.sort(), filters.limit(), count)
            )
        return found

    def _lacked(self, kind: str) -> tuple[dict[str, str], str, list[Item]]:
        """What the listed records are to have none of, and the rest of what was said; raises AskBackError."""
        lacks = _LACKING.search(self.low)
        if lacks is None:
            return {}, self.text, list(self.items)
        named: list[str] = []
        end = lacks.end()
        if lacks[0] in ("unassigned", "unowned"):
            named.append("owner")
        else:
            for item in self.items:
                if item.start < lacks.end():
                    continue
                if item.can("field"):
                    named.append(item.senses["field"])
                    end = item.end
                elif not (item.can("fill") or item.can("mark", "and", "or") or item.kind == "comma"):
                    break
        columns = [_LACKED.get(kind, {}).get(one) for one in named]
        if not columns or None in columns:
            raise AskBackError(
                "I list packages without an owner, a vendor, an amount, a type or a planned end, and tasks without an "
                "assignee or a due date.",
                not_understood=[self.text[lacks.start() :].strip(" ?.!")],
                offers=("Show packages without an owner", "Show my open tasks"),
            )
        text = self.text[: lacks.start()] + " " * (end - lacks.start()) + self.text[end:]
        rest = [item for item in self.items if item.end <= lacks.start() or item.start >= end]
        return {"without": ",".join(dict.fromkeys(one for one in columns if one))}, text, rest

    def _listed_types(self) -> list[tuple[str, dict[str, str]]]:
        nouns = [
            item for item in self.items if item.kind == "word" and (item.can("noun") and item.senses["noun"] in _PLURAL)
        ]
        plural = [item for item in nouns if item.low.endswith("s") or item.low == "procurement"] or [
            item
            for item in nouns
            if re.search(
                rf"\b(?:which|what|any|every|no|biggest|largest|smallest|cheapest|list|count|all|open|overdue|"
                rf"expensive|highest|lowest|next)\b.{{0,30}}\b{re.escape(item.low)}\b",
                self.low,
            )
        ]
        if not plural and nouns and any(item.kind == "person" or item.can("pronoun", "my") for item in self.items):
            plural = [] if any(item.kind in ("code", "number", "quote", "name") for item in self.items) else nouns
        pointing = [item for item in self._pointers() if not (item.can("pronoun") and not self._stands_alone(item))]
        if plural:
            noun = plural[0].senses["noun"]
            if noun in ("vendor", "customer"):
                if pointing:
                    return []
                return [("party", {"kind": f"{noun},both"})]
            others = [
                item
                for item in pointing
                if not (noun == "package" and all(one.type == "party" for one in item.records))
            ]
            if noun == "package" and any(item.kind in ("code", "number") for item in others):
                return []
            if noun == "approval" and not pointing and "task" in [one.senses["noun"] for one in plural]:
                noun = "task"
            return [(noun, {})]
        if any(
            item.kind in ("code", "number", "ordinal") or any(one.type != "party" for one in item.records)
            for item in pointing
        ):
            return []
        return self._listed_without_noun(pointing)

    def _listed_without_noun(self, pointing: Sequence[Item]) -> list[tuple[str, dict[str, str]]]:
        low = self.low
        late = Filters(self.turn, "task", self.text, ()).__class__(self.turn, "task", self.text, ())
        late.low = low
        if late.is_late():
            return [("task", {}), ("package", {})]
        if re.search(r"\b(?:waiting for|awaiting|pending|open|outstanding) (?:an? )?(?:approvals?|decisions?)\b", low):
            return [("approval", {})]
        statuses = [item.senses["status"] for item in self.items if item.can("status")]
        asks = re.search(r"\b(?:what|which|show|list|anything|everything|is there|are there|how many|all|who)\b", low)
        if statuses and asks and not pointing:
            kinds = [
                kind
                for kind in ("package", "task")
                if any(status_of(self.turn, key, kind) or key == "open" for key in statuses)
            ]
            return [(kind, {}) for kind in kinds]
        people = [item for item in self.items if item.kind == "person" or item.can("pronoun", "me", "my")]
        if people and re.search(
            r"\b(?:work(?:s|ing)? on|to do|doing|busy with|assigned to|on (?:my|his|her) plate|on my list|todo)\b", low
        ):
            return [("task", {"status": ",".join(self.turn.knowledge.unfinished("task"))})]
        if people and re.search(
            r"\b(?:own|owns|owned|manag(?:e|es|ing)|responsible for|in charge of|lead|leads)\b", low
        ):
            return [("package", {})]
        if any(item.kind == "date" for item in self.items) and re.search(
            r"\bdue\b|\bdeadlines?\b|\bends?\b|\bfinish", low
        ):
            return [("task", {})] if re.search(r"\bdue\b", low) else [("package", {})]
        if (
            pointing
            and all(one.type == "party" for item in pointing for one in item.records)
            and re.search(r"\b(?:doing|have|has|working|supply|supplies|won|got|do we have|award(?:ed)?)\b", low)
        ):
            return [("package", {})]
        unknowns = [item for item in self.items if item.kind in ("name", "quote")]
        if unknowns and re.search(r"\b(?:find|search|search for|look for|looking for|look up)\b", low) and not pointing:
            said = unknowns[0].value if unknowns[0].kind == "quote" else unknowns[0].text
            return [("package", {"q": str(said)[:200]})]
        return []

    def _about(self) -> list[Question]:
        records = self._records() if self._pointers() else []
        named: list[tuple[Named, str]] = [(one.named, one.type) for one in records]
        if not named:
            projects = [item for item in self.items if item.kind == "project"]
            people = [item for item in self.items if item.kind == "person"]
            if projects:
                return [AboutRecord(cast("Named", self._project()))]
            if people and re.search(r"\bwho is\b|\bwho's\b|\babout\b", self.low):
                return [AboutRecord(self.turn.person(people[0]))]
            return []
        return [AboutRecord(one, tuple(self.asked_fields(kind))) for one, kind in named]

    def asked_fields(self, kind: str) -> list[str]:
        """The fields of a record that are asked for, by the API's names."""
        low = self.low
        fields = self._fields(kind)
        hints: list[tuple[str, str]] = [
            (r"\bwho (?:has|does|takes|got)\b", "assignee" if kind == "task" else ""),
            (
                (
                    r"\bwho(?:m|se|'s|s)?\b.{0,40}\b(?:owns?|owner|responsible|in charge|manag\w+|leads?|"
                    r"looks? after|accountable|runs?|handles?|handling|takes care)\b|\bwhose\b"
                ),
                "owner",
            ),
            (
                r"\bwho(?:m|se|'s|s)?\b.{0,40}\b(?:works?|working|assigned|does|doing|assignee)\b",
                "assignee" if kind == "task" else "owner",
            ),
            (
                (
                    r"\bwho(?:m|'s)?\b.{0,40}\b(?:vendor|supplier|contractor|won|wins|got|delivers?|supplies|"
                    r"builds?|awarded)\b|\bto whom\b|\bwith whom\b"
                ),
                "vendor",
            ),
            (
                (
                    r"\b(?:when|what (?:day|date)|by when|how long until|until when)\b.{0,60}\b(?:due|ends?|ended|"
                    r"finish(?:ed|es)?|complet\w+|done|over|deadline|runs?|lasts?|deliver\w*|ready|expire|close|"
                    r"expected)\b"
                ),
                "end",
            ),
            (
                r"\b(?:when|what (?:day|date)|since when)\b.{0,60}\b(?:starts?|begins?|kick|launch|commence)\w*\b",
                "planned_start",
            ),
            (r"\bhow (?:much|expensive|big|large|costly)\b|\bcosts?\b|\bworth\b|\bprice\b", "amount"),
            (r"\bwhat is .{0,30} (?:called|named)\b|\bwhat's .{0,30} called\b", "title"),
            (r"\b(?:late|overdue|behind|delayed|on time|on schedule|on track)\b", "end"),
        ]
        for form, name in hints:
            if re.search(form, low):
                field = field_of(name, kind)
                if field and field not in fields:
                    fields.append(field)
        states = any(item.can("status") or item.can("past") for item in self.items)
        where = re.search(
            r"\bwhere\b.{0,30}\b(?:stands?|is|are|at|do|does|with)\b|\bwhat (?:state|stage|phase)\b|\bhow far\b", low
        )
        wonders = _WONDERS.search(low) and any(
            item.can("verb") or item.can("past") or item.can("ing") for item in self.items
        )
        if (where or ((wonders or states) and not fields)) and "status" not in fields and kind != "party":
            fields.insert(0, "status")
        return fields
