"""One message to one plan."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pmis.assistant.plan import AboutRecord, Before, Plan, WhatCanYouDo
from pmis.assistant.planner import linking, stance
from pmis.assistant.planner.asking import OFFERS, AskBackError, RefusedError, not_clear
from pmis.assistant.planner.changes import deciding, merged
from pmis.assistant.planner.commands import Orders, bare_answer, clauses, is_bare, is_verb, leads_to_value
from pmis.assistant.planner.dates import Unclear, find_dates
from pmis.assistant.planner.knowledge import Knowledge
from pmis.assistant.planner.memories import Memories, order_of
from pmis.assistant.planner.phrases import in_other_words
from pmis.assistant.planner.questions import HELP, Asked
from pmis.assistant.planner.reasons import joined, with_remark_aside, without_reason
from pmis.assistant.planner.text import MAX_READ, QUOTE, Said, cleaned, lowered, put_aside, sentences, spelt
from pmis.assistant.planner.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from uuid import UUID
    from zoneinfo import ZoneInfo

    from pmis.assistant.plan import Named, PlannedChange, Question
    from pmis.assistant.planner.items import Item
    from pmis.kit.db import Session
    from pmis.policy.access import Principal

MOST_SENTENCES: Final = 12
_HAS_CODE: Final = re.compile(r"\b[A-Za-z][A-Za-z0-9]{0,9}-[0-9]{1,6}\b")
_THANKS: Final = re.compile(
    r"\b(?:thank(?:s| you)|thx|cheers|bye|goodbye|see you|perfect|great|awesome|well done|good job|nice|cool)\b"
)
_NAMELY: Final = re.compile(
    r"\b(?:except|besides|apart from|other than|all but|excluding|without|instead of|rather than)\b"
)
_CAN_YOU: Final = re.compile(r"[\s,:;-](?:can|could|would|will) (?:you|u)(?: please| kindly)? ")
_GIVES_APPROVAL: Final = re.compile(
    r"^(?:give|grant|cast|record|register|enter)\s+(?:my|our|an|the|full|your)?\s?(?:approval|consent|vote|ok|"
    r"okay|blessing|agreement)\b"
)
_HAPPENED: Final = re.compile(r"(?<![\w'])(?:is|are|was|were|has|have|had|got|i've|we've|i|we|he|she|they)(?![\w])")


async def plan(
    text: str,
    *,
    session: Session,
    principal: Principal,
    now: datetime,
    zone: ZoneInfo,
    project: Named | None = None,
    before: Before | None = None,
) -> Plan:
    """What to do about a message: pure but for what is looked up, the same for the same message, records and time.

    It writes nothing, decides nothing, and finds only what the principal may see. Whatever is said, it raises nothing.
    """
    shown = cleaned(text)
    if is_bare(shown) and order_of(Said(shown), before) is None:
        return _bare(shown, before)
    said = with_remark_aside(_put_aside(shown))
    if not re.search(r"[^\W_]", QUOTE.sub(" q ", said.text)):
        return _unread(shown)
    if len(said.text) > MAX_READ:
        return Plan(
            "clarify",
            text="That is too long for me to read. Please say what you want in a few sentences.",
            offers=OFFERS,
        )
    planner = _Planner(session, principal, now, zone, project, before)
    return await planner.answer(said)


def _put_aside(shown: str) -> Said:
    said = put_aside(shown)
    return replace(said, text=spelt(said.text))


def _unread(shown: str) -> Plan:
    if shown.strip() and not shown.strip(" ?"):
        return Plan("answer", (WhatCanYouDo(),))
    return Plan(
        "clarify",
        text="I did not understand that. What would you like to know or to change?",
        not_understood=(shown,) if shown else (),
        offers=OFFERS,
    )


def _bare(shown: str, before: Before | None) -> Plan:
    answer = bare_answer(shown)
    del before
    if isinstance(answer, RefusedError):
        return Plan("refuse", text=answer.text, offers=answer.offers)
    if isinstance(answer, AskBackError):
        return _asking(answer, Said(shown))
    return Plan("answer", text=answer)


def _asking(error: AskBackError, said: Said) -> Plan:
    """What is asked back, with what was quoted as it was typed."""
    return Plan(
        "clarify",
        text=said.spoken(error.text),
        candidates=error.candidates,
        not_understood=tuple(said.spoken(one) for one in error.not_understood),
        offers=error.offers,
    )


@dataclass
class _Outcome:
    """What the sentences of a message came to."""

    questions: list[Question] = field(default_factory=list["Question"])
    changes: list[PlannedChange] = field(default_factory=list["PlannedChange"])
    texts: list[str] = field(default_factory=list[str])
    decisions: list[PlannedChange] = field(default_factory=list["PlannedChange"])


class _Planner:
    def __init__(
        self,
        session: Session,
        principal: Principal,
        now: datetime,
        zone: ZoneInfo,
        project: Named | None,
        before: Before | None,
    ) -> None:
        self._session = session
        self._principal = principal
        self._now = now
        self._zone = zone
        self._project = project
        self._before = before
        self._knowledge: Knowledge | None = None

    async def answer(self, said: Said) -> Plan:
        """The plan for the message, or for the earlier one to which it is the missing answer."""
        direct = await self._plan(said)
        before = self._before
        if before is None or before.asked is None or len(said.text) > 200:  # noqa: PLR2004 - an answer is short
            return direct
        if direct.kind in ("change", "refuse") or (direct.kind == "answer" and not _is_fragment(said.text)):
            return direct
        return await self._completed(said, before.asked) or direct

    async def _completed(self, said: Said, asked: str) -> Plan | None:
        """The plan for the earlier message with what this one adds to it, if that makes it clear."""
        knowledge, before = self._known(), self._before
        items = (await linking.read(said, [said.text], self._today(), knowledge))[1][0]
        earlier = with_remark_aside(_put_aside(cleaned(asked)))
        picked = self._picked(items)
        if picked:
            found = await self._plan(earlier, chosen=picked)
            if found.kind in ("change", "answer"):
                return found
        if order_of(earlier, before) is not None:
            # Whatever was put behind it would be remembered.
            return None
        answer = said.text.strip(" .!?")
        answer = re.sub(
            r"^(?:to|for|on|in|it's|it is|i mean|i meant|the|please|by|call it|named?)\s+",
            "",
            said.spoken(answer),
            flags=re.IGNORECASE,
        )
        unclear = await self._plan(earlier)
        if unclear.kind != "clarify" or not answer:
            return None
        del before
        for text in _completions(asked, answer, unclear, self._today()):
            found = await self._plan(with_remark_aside(_put_aside(cleaned(text))))
            if found.kind in ("change", "answer") and (found.changes or found.questions):
                return found
        return None

    def _picked(self, items: Sequence[Item]) -> frozenset[UUID]:
        before = self._before
        if before is None:
            return frozenset()
        listed = before.candidates
        known = {one.id for one in listed}
        picked: set[UUID] = set()
        for item in items:
            if item.kind == "ordinal" and listed:
                place = item.value - 1 if item.value > 0 else len(listed) - 1
                if 0 <= place < len(listed):
                    picked.add(listed[place].id)
            ids = [one.named.id for one in item.records] + [one.id for one in item.people]
            if item.kind == "project":
                ids += [one.id for one in item.value]
            inside = [one for one in ids if one in known] if known else ids
            if len(inside) == 1:
                picked.add(inside[0])
        return frozenset(picked)

    def _known(self) -> Knowledge:
        assert self._knowledge is not None  # noqa: S101 - `_plan` ran before
        return self._knowledge

    def _today(self) -> date:
        return self._now.astimezone(self._zone).date()

    async def _plan(self, said: Said, chosen: frozenset[UUID] = frozenset()) -> Plan:
        if stance.is_bypass(lowered(said.text)):
            return Plan(
                "refuse",
                text="Every change is proposed, judged by the policy and agreed by those whom it names. "
                "Nothing that is said here goes round that.",
                offers=OFFERS,
            )
        if self._knowledge is None:
            self._knowledge = await Knowledge.of(self._session, self._principal)
        knowledge = self._knowledge
        turn = Turn(knowledge, said, self._now, self._zone, self._project, self._before, chosen)
        if self._before is not None:
            await knowledge.fetch(ids=[one.id for one in (*self._before.records, *self._before.candidates)][:40])
        order = order_of(said, self._before)
        try:
            return await (self._sentences(turn, said) if order is None else Memories(turn, said, order).plan())
        except AskBackError as error:
            # Only what nobody could read: a package may well be called after a hotel.
            if stance.is_outside(lowered(said.text)) and not (error.candidates or _HAS_CODE.search(said.text)):
                return Plan(
                    "refuse",
                    text="That is nothing that I can help with: I know the packages, tasks, parties and approvals of "
                    "your projects.",
                    offers=OFFERS,
                )
            return _asking(error, said)
        except RefusedError as error:
            return Plan("refuse", text=error.text, offers=error.offers)

    async def _sentences(self, turn: Turn, said: Said) -> Plan:
        """The plan for what its sentences ask and order; raises AskBackError or RefusedError."""
        texts = self._texts(turn, said)
        if len(texts) > MOST_SENTENCES:
            return Plan("clarify", text="That is too much at once. Please say a few things at a time.", offers=OFFERS)
        mended, parts = await linking.read(said, texts, turn.today, turn.knowledge)
        outcome = _Outcome()
        for text, items in zip(mended, parts, strict=True):
            Sentence(turn, text, items, outcome).read()
        changes = merged(outcome.changes)
        if outcome.decisions:
            targets = [one.target.id for one in outcome.decisions if one.target is not None]
            if await turn.knowledge.with_open_approval(targets):
                raise deciding()
        if turn.reason is not None:
            changes = [replace(one, reason=turn.reason) for one in changes]
        kind = "change" if changes else "answer"
        return Plan(kind, tuple(outcome.questions), tuple(changes), text=" ".join(outcome.texts))

    def _texts(self, turn: Turn, said: Said) -> list[str]:
        texts: list[str] = []
        for sentence in joined(sentences(said.text)):
            rest, reason = without_reason(sentence)
            if reason is not None:
                turn.reason = said.spoken(reason)[:1000]
            if rest.strip(" .,;!?"):
                texts.append(in_other_words(rest.strip()))
        return texts


def _is_fragment(text: str) -> bool:
    return len(text.split()) <= 8 and "?" not in text  # noqa: PLR2004 - a bare answer


def _completions(asked: str, answer: str, unclear: Plan, today: date) -> list[str]:
    """The earlier message with the answer put where something was missing or not understood."""
    found: list[str] = []
    for missed in unclear.not_understood:
        place = asked.lower().find(missed.strip().lower())
        if place >= 0 and missed.strip():
            found.append(asked[:place] + answer + asked[place + len(missed.strip()) :])
    found += [
        asked[: one.start] + answer + asked[one.end :]
        for one in find_dates(lowered(asked), today)
        if isinstance(one.when, Unclear)
    ]
    stem = asked.rstrip(" .!?")
    return [*found, *(f"{stem} {word} {answer}" for word in ("to", "for", "in project", "called"))]


class Sentence:
    """Reads one sentence into the outcome."""

    def __init__(self, turn: Turn, said: linking.Mended, items: list[Item], outcome: _Outcome) -> None:
        """`items` are the parts of what was said."""
        self.turn = turn
        self.said = said
        self.text = said.text
        self.low = lowered(said.text)
        self.items = items
        self.outcome = outcome
        self.begin, self.asked = stance.courtesy(self.low)
        self.asked = self.asked or re.search(r"(?<!\w)(?:please|pls|plz|kindly)(?!\w)", self.low) is not None

    def read(self) -> None:
        """Add the questions and changes of the sentence; raises AskBackError or RefusedError."""
        rest = [item for item in self.items if item.end > self.begin]
        if self._asks_in_the_middle(rest):
            return
        if self.outcome.questions and all(item.can("cue") or _is_small(item) for item in rest):
            # "By whom?" after a question whose answer tells that anyway.
            return
        if _GIVES_APPROVAL.search(self.low[self.begin :]):
            raise deciding()
        if not [item for item in rest if item.kind != "comma" and item.low not in ".!?"]:
            self._courtesy()
            return
        if stance.is_question(self.low, self.begin, asked=self.asked and self.begin > 0):
            self._question(rest)
            return
        if "mind" in self.low[: self.begin] and rest[0].can("ing"):
            rest[0].senses = {**rest[0].senses, "verb": rest[0].senses["ing"]}
        first = next((place for place, item in enumerate(rest) if is_verb(rest, place) or not _is_small(item)), 0)
        asks = rest[first].can("verb", "ask") or (
            rest[first].low == "describe" and not any(item.low in ("as", ":") for item in rest)
        )
        if asks and is_verb(rest, first):
            self._question(rest)
            return
        self._require_outright(rest)
        if self._is_order(rest):
            self._order(rest)
        else:
            self._fragment(rest)

    def _asks_in_the_middle(self, rest: list[Item]) -> bool:
        """Read what "P-001: can you put it on hold?" asks for; False for a sentence of another form."""
        asks = _CAN_YOU.search(self.low)
        if asks is None or asks.start() <= self.begin:
            return False
        before = [item for item in rest if item.end <= asks.start() + 1]
        after = [item for item in rest if item.start >= asks.end()]
        if not before or not all(_is_small(item) or item.records or item.kind == "code" for item in before):
            return False
        if not after or not is_verb(after, 0) or after[0].can("verb", "ask"):
            return False
        self.asked = True
        self._order([*before, *after])
        return True

    def _courtesy(self) -> None:
        if self.low.strip(" .!") in ("please", "pls"):
            raise not_clear([self.text])
        if _THANKS.search(self.low):
            self.outcome.texts.append("You are welcome.")
        else:
            self.outcome.questions.append(WhatCanYouDo())

    # --- questions ---

    def _question(self, rest: list[Item]) -> None:
        parts = clauses(rest)
        is_inverted = not self.asked and re.match(
            r"(?:is|are|can|could|should|shall|may|must|would|will|was|were|do|does|did|has|have|what if|"
            r"what happens|what would|if)\b",
            self.low[self.begin :],
        )
        is_asking = any(item.can("verb", "ask") for item in parts[0][:3])
        for place, part in enumerate(parts):
            first = next((item for item in part if not (item.can("fill") and not item.can("verb"))), part[0])
            text = self.text[part[0].start : part[-1].end]
            is_order = place > 0 and first.can("verb") and not first.can("verb", "ask")
            if is_order and is_inverted:
                continue
            if is_order:
                if not is_asking and not self.asked:
                    raise not_clear([text])
                self._order(part)
                continue
            if place > 0 and not self._asks_more(part):
                continue
            whole = text if len(parts) > 1 else self.text
            self._ask(whole, part, continued=place > 0)

    def _asks_more(self, part: Sequence[Item]) -> bool:
        """Whether there is more in it than "and when" or "by whom"."""
        return any(
            not (item.can("cue") or item.can("mark") or item.can("fill")) or item.can("field") or item.can("noun")
            for item in part
        )

    def _ask(self, text: str, part: Sequence[Item], *, continued: bool = False) -> None:
        offset = part[0].start if text != self.text else 0
        moved = [replace(item, start=item.start - offset, end=item.end - offset) for item in part]
        asked = Asked(self.turn, text, moved)
        try:
            self.outcome.questions += asked.questions()
        except AskBackError:
            about = self._about_earlier(moved)
            if not about:
                raise
            self.outcome.questions += about
        del continued

    def _about_earlier(self, part: Sequence[Item]) -> list[Question]:
        """What "and the owner?" asks: a field of what was spoken of before."""
        if not any(item.can("field") for item in part) or any(
            item.kind in ("name", "code", "number", "quote") for item in part
        ):
            return []
        known = self.turn.knowledge.records
        earlier = self.turn.topics or [
            known[one.id] for one in (self.turn.before.records if self.turn.before else ()) if one.id in known
        ]
        if not earlier:
            return []
        record = earlier[-1]
        fields = Asked(self.turn, self.text, part).asked_fields(record.type)
        return [AboutRecord(record.named, tuple(fields))]

    # --- commands ---

    def _plain(self, items: Sequence[Item]) -> str:
        """The text of these items without the names of statuses and without what was quoted or named."""
        if not items:
            return ""
        start, end = items[0].start, items[-1].end
        text = self.low[start:end]
        for item in items:
            if item.can("status") or item.records or item.kind in ("quote", "code", "person"):
                text = text[: item.start - start] + " " * (item.end - item.start) + text[item.end - start :]
        return text

    def _require_outright(self, rest: Sequence[Item]) -> None:
        """Return when the sentence says outright what is to be done; raises AskBackError."""
        plain = self._plain([item for item in self.items if item.end > 0])
        tail = self.low[self.begin :]
        offers = ("Put P-001 on hold because the vendor is late",)
        if stance.is_reported(plain) and not re.search(r"\bi (?:said|told)\b", self.low):
            raise AskBackError(
                "That tells what somebody else said, and I act only on what you say yourself. What do you "
                "want me to propose?",
                not_understood=[self.turn.said.spoken(self.text)],
                offers=offers,
            )
        dated = any(item.kind == "date" for item in rest)
        if stance.is_supposed(plain[-len(tail) :] if tail else plain, dated=dated):
            raise AskBackError(
                "I propose nothing that hangs on a condition. Tell me when it is to be done.",
                not_understood=[self.turn.said.spoken(self.text)],
                offers=offers,
            )
        if stance.is_tentative(plain, asked=self.asked):
            raise AskBackError(
                "That sounds as if it were not settled. If it is, say it outright.",
                not_understood=[self.turn.said.spoken(self.text)],
                offers=offers,
            )

    def _is_order(self, rest: list[Item]) -> bool:
        orders = Orders(self.turn, self.said, asked=self.asked)
        if any(orders.head(part) is not None for part in clauses(rest)):
            return True
        if stance.is_negated(self._plain(rest)):
            return any(item.can("verb") or item.can("ing") or item.can("past") for item in rest)
        first = next((item for item in rest if not _is_small(item)), rest[0])
        if (
            first.kind == "word"
            and first.can("noun", "task", "package")
            and not first.low.endswith("s")
            and "?" not in self.text
        ):
            return any(item.low == ":" or item.kind == "quote" for item in rest)
        if any(item.can("noun") and item.low.endswith("s") for item in rest) and not _names(rest):
            # "Completed packages please" asks for a list.
            return False
        must = any(re.fullmatch(r"must|needs?|has|have|to be|shall|should|should be", item.low) for item in rest)
        says = any(item.can("status") or item.can("past") for item in rest)
        arrow = any(item.low in ("->", "=>", "=", ":") for item in rest) or leads_to_value(rest)
        values = any(item.kind in ("amount", "date", "person", "percent", "quote") for item in rest)
        return (must and (says or values)) or ((arrow or self.asked) and (says or values))

    def _order(self, rest: list[Item]) -> None:
        kept, dropped = list[list["Item"]](), list[list["Item"]]()
        for part in clauses(rest):
            if not all(_is_small(item) for item in part):
                (dropped if stance.is_negated(self._plain(part)) else kept).append(part)
        if dropped:
            self._forbidden(kept, dropped)
        orders = Orders(self.turn, self.said, asked=self.asked)
        for part in kept:
            first = next((item for item in part if not _is_small(item) or item.can("verb")), part[0])
            if (first.can("verb", "ask") and is_verb(part, part.index(first))) or first.low in (
                "who",
                "what",
                "when",
                "which",
                "how",
                "where",
                "what's",
                "who's",
            ):
                self._ask(self.text[part[0].start : part[-1].end], part)
            else:
                self.outcome.changes += orders.plan(part)
        self.outcome.decisions += orders.approvable

    def _forbidden(self, kept: Sequence[Sequence[Item]], dropped: Sequence[Sequence[Item]]) -> None:
        """Leave out what is forbidden; what it is about can be meant by "it". Raises AskBackError when unclear."""
        for part in dropped:
            plain = self._plain(part)
            acts = re.search(r"(?:don't|do not|never|not) \w+", plain) is not None
            points = [item for item in part if item.records or item.kind == "code" or item.can("pronoun", "it", "them")]
            if _NAMELY.search(plain) or (kept and not (acts and points)):
                raise not_clear([self.text[part[0].start : part[-1].end]])
            for item in points:
                if item.records and len(item.records) == 1:
                    self.turn.mention(item.records[0])
        self.outcome.texts.append("I changed nothing there, as you wish.")

    def _fragment(self, rest: list[Item]) -> None:
        """A sentence that neither asks nor orders: a few words, or a statement."""
        if HELP.search(self.low):
            self.outcome.questions.append(WhatCanYouDo())
            return
        plain = self._plain(rest)
        happened = any(item.can("past") or item.can("status") for item in rest) and _HAPPENED.search(plain)
        names = [item for item in rest if item.records or item.kind == "code"]
        subject = rest[0].kind == "person" or rest[0].can("pronoun", "me")
        if (happened and names and not re.match(r"\W*(?:all|every|any)\b", self.low)) or (
            subject and any(item.can("past") for item in rest)
        ):
            raise AskBackError(
                "Is that so already, or do you want me to propose it?",
                not_understood=[self.turn.said.spoken(self.text)],
                offers=tuple(f"Set {item.records[0].named.label} to …" for item in names[:1] if item.records),
            )
        acts = [item for item in rest if item.can("verb") and not item.can("verb", "ask")]
        acts = [item for item in acts if not (item.can("field") or item.can("noun") or item.can("status"))]
        if names and acts and "?" not in self.text:
            raise AskBackError(
                "Do you want me to propose that? If so, say it outright.",
                not_understood=[self.turn.said.spoken(self.text)],
                offers=(f"{acts[0].text.capitalize()} {names[0].text.strip()}",),
            )
        gives = [item for item in rest if item.kind in ("amount", "percent", "person")]
        strange = [item for item in rest if item.kind == "name" and not item.records]
        if names and strange and "?" not in self.text:
            raise not_clear(item.text for item in strange)
        if names and (
            any(item.can("status") for item in rest) and not any(item.can("field") or item.can("noun") for item in rest)
        ):
            raise AskBackError(
                "Do you want to know that, or to change it?",
                not_understood=[self.turn.said.spoken(self.text)],
                offers=(f"Put {names[0].text.strip()} …", f"Is {names[0].text.strip()} …?"),
            )
        if names and gives and not any(item.can("noun") for item in rest):
            raise not_clear([self.turn.said.spoken(self.text)])
        self._ask(self.text, rest)


def _names(items: Sequence[Item]) -> bool:
    """Whether a record, or what may be one, is named."""
    return any(item.records or item.kind in ("code", "name", "quote") for item in items)


def _is_small(item: Item) -> bool:
    return item.kind == "comma" or (item.kind == "word" and (item.can("fill") or item.can("mark")))
