"""How approvals, proposals and events are shown to people: what changes, who must agree, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pmis.cli.output import STYLES, Difference, Screen, as_json, differences, needed
from pmis.cli.text import label, moment, printable, short, title_of, value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.text import Text

    from pmis.cli.client import Answer, Json
    from pmis.cli.lookup import Lookup

_INTERNAL: Final = frozenset({"number", "author"})
"""Fields of a new record that only programs read."""
_NAMED: Final = 5
_DONE: Final[Mapping[str, str]] = {
    "create": "created",
    "patch": "changed",
    "transition": "moved on",
    "delete": "deleted",
    "restore": "restored",
}


def outcome(answer: Answer, lookup: Lookup, *, operation: str, json: bool, kind: str = "record") -> None:
    """What became of a proposal or a decision, in plain words. `kind` names a record that has no name of its own."""
    if json:
        as_json(answer.body)
        return
    screen = Screen()
    said = answer.json
    if said.get("outcome") == "preview":
        _preview(said, lookup, screen)
        return
    approval = cast("Json | None", said.get("approval"))
    rule = f"rule {printable(str(said['rule']))}"
    if said["outcome"] == "applied":
        record = cast("Json", said.get("resource") or {})
        done = _DONE.get(operation, "changed")
        if operation == "transition" and "status" in record:
            done = f"now {printable(str(record['status']))}"
        name = title_of(record) or printable(str(approval["label"] if approval else f"the {kind}"))
        version = f" (version {record['version']})" if "version" in record else ""
        through = f"approval {short(approval['id'])}" if approval else "applied at once"
        if approval and len(approval["diff"]) > 1:
            screen.line(f"{_all_done(approval['diff'])}; {rule}; {through}.", style="green")
            return
        screen.line(f"{name} is {done}{version}; {rule}; {through}.", style="green")
        return
    if approval is None:
        screen.line(f"{said['outcome']}; {rule}.")
        return
    screen.line(f"{_waits(approval, lookup)}; {rule}; approval {short(approval['id'])}.", style="yellow")
    what_changes(approval, lookup, screen)
    if said["outcome"] == "confirmation_required":
        screen.line(f"Say yes to exactly this with `pmis approval confirm {short(approval['id'])}`.")


def _all_done(diff: Sequence[Json]) -> str:
    """What became of the records of a proposal of several changes, each named once, with where it stands in the end."""
    done: dict[str, str] = {}
    for record in diff:
        name = printable(str(record["label"]))
        status = next(
            (str(one["after"]) for one in cast("list[Json]", record["fields"]) if one["field"] == "status"), ""
        )
        if record["operation"] == "transition" and status:
            done[name] = f"now {printable(status)}"
        elif name not in done or done[name] == _DONE["patch"]:
            done[name] = _DONE.get(str(record["operation"]), _DONE["patch"])
    said = [f"{name} is {what}" for name, what in done.items()]
    return ", ".join(said[:_NAMED]) + (f" and {len(said) - _NAMED} more" if len(said) > _NAMED else "")


def _waits(approval: Json, lookup: Lookup) -> str:
    if approval["status"] == "confirmation_required":
        return "Waits for your own yes"
    return f"Waits for {needed(approval['open_steps'], lookup, serial=_is_serial(approval))}"


def _is_serial(approval: Json) -> bool:
    return cast("Json", approval["decision"]).get("order") == "serial"


def _preview(said: Json, lookup: Lookup, screen: Screen) -> None:
    _records(said["diff"], said["facts"], lookup, screen)
    screen.line()
    verdict = {
        "AUTO": "It would be applied at once",
        "CONFIRM": "It would wait for your own yes",
    }.get(said["route"])
    if verdict is None:
        verdict = f"It would wait for {needed(said['open_steps'], lookup, serial=said['order'] == 'serial')}"
    screen.line(f"{verdict}; rule {printable(str(said['rule']))}. Nothing was written.")
    screen.pairs(why(said))


def why(decision: Json) -> list[tuple[str, str]]:
    """The route with the reasons that made it."""
    return [
        ("route", printable(str(decision["route"]))),
        (
            "risk",
            (
                f"impact {decision['impact']} x uncertainty {decision['uncertainty']} = {decision['score']} of 16, "
                f"policy version {decision['policy_version']}"
            ),
        ),
        *[
            ("why" if i == 0 else "", f"{printable(str(reason['text']))} [{printable(str(reason['rule']))}]")
            for i, reason in enumerate(cast("list[Json]", decision["reasons"]))
        ],
    ]


def what_changes(approval: Json, lookup: Lookup, screen: Screen) -> None:
    """Each record that an approval would change, field by field."""
    _records(approval["diff"], approval["decision"]["facts"], lookup, screen)


def _records(diff: Sequence[Json], facts: Json, lookup: Lookup, screen: Screen) -> None:
    for i, record in enumerate(diff):
        kind = printable(str(record["target_type"])).replace("_", " ")
        # What has no name of its own is labelled with its kind.
        name = "" if record["label"] == record["target_type"] else f" {printable(str(record['label']))}"
        screen.line(f"{printable(str(record['operation']))} {kind}{name}", style="bold")
        screen.pairs(one.pair(lookup) for one in _fields(record, facts, i))


def _fields(record: Json, facts: Json, place: int) -> list[Difference]:
    """What a proposal does to one record. The policy's facts about it know the currency of its amounts."""
    bundled = cast("list[Json]", facts.get("changes") or [])
    own = bundled[place] if place < len(bundled) else facts
    return differences(
        [(str(item["field"]), item["before"], item["after"]) for item in cast("list[Json]", record["fields"])],
        fresh=record["operation"] == "create",
        currencies=(own.get("currency_before"), own.get("currency_after")),
    )


def show(approval: Json, lookup: Lookup, screen: Screen) -> None:
    """An approval, whole."""
    status = printable(str(approval["status"])).replace("_", " ")
    screen.line(f"approval {short(approval['id'])}: {status}", style=STYLES.get(str(approval["status"]), "bold"))
    proposer = cast("Json", approval["proposer"])
    behalf = proposer.get("on_behalf_of_name")
    by = printable(str(proposer["name"])) + (f" for {printable(str(behalf))}" if behalf else "")
    pairs = [
        ("id", printable(str(approval["id"]))),
        ("proposed", f"by {by}, {moment(approval['created_at'])} UTC, through {printable(str(approval['source']))}"),
        ("reason", value(approval["reason"])),
    ]
    if approval.get("supersedes"):
        pairs.append(("supersedes", short(approval["supersedes"])))
    screen.pairs(pairs)
    screen.line()
    what_changes(approval, lookup, screen)
    screen.line()
    pairs = why(approval["decision"])
    if approval["status"] == "pending":
        pairs.append(("needs", needed(approval["open_steps"], lookup, serial=_is_serial(approval))))
    elif approval["status"] == "confirmation_required":
        pairs.append(("needs", f"the yes of {by}"))
    pairs += [("said", _verdict(verdict)) for verdict in cast("list[Json]", approval["verdicts"])]
    if approval.get("deadline_at"):
        pairs.append(("deadline", f"{moment(approval['deadline_at'])} UTC"))
    if approval["status"] in ("pending", "confirmation_required"):
        pairs.append(("expires", f"{moment(approval['expires_at'])} UTC" if approval["expires_at"] else "never"))
    if approval.get("closed_at"):
        pairs.append(("closed", f"{moment(approval['closed_at'])} UTC by {printable(str(approval['closed_by']))}"))
    if approval.get("closed_reason"):
        pairs.append(("because", value(approval["closed_reason"])))
    if approval.get("colliding"):
        pairs.append(("colliding", value([label(name) for name in approval["colliding"]])))
    screen.pairs([*pairs, ("digest", printable(str(approval["digest"])))])


def _verdict(verdict: Mapping[str, Any]) -> str:
    words = {"approve": "agrees", "reject": "rejects", "request_changes": "asks for changes"}
    said = words.get(str(verdict["verdict"]), str(verdict["verdict"]))
    reason = f": {value(verdict['reason'])}" if verdict.get("reason") else ""
    exception = " (an exception: their own change)" if verdict.get("exception") else ""
    seat = " in another's seat" if verdict["seat_person_id"] != verdict["person_id"] else ""
    return f"{printable(str(verdict['name']))} {said}{seat}{exception}, {moment(verdict['at'])} UTC{reason}"


class Events:
    """Events as a story, the newest first. Follows the currency back through time, so that each amount has its own."""

    def __init__(self, lookup: Lookup, screen: Screen, *, currency: Any = None) -> None:  # noqa: ANN401 - JSON
        """`currency` is the record's present one."""
        self._lookup = lookup
        self._screen = screen
        self._currency = currency

    def show(self, event: Json) -> None:
        """One event with what it changed."""
        payload = cast("Json", event["payload"])
        who = printable(str(event["actor_name"]))
        if event.get("on_behalf_of_name"):
            who += f" for {printable(str(event['on_behalf_of_name']))}"
        kind = printable(str(event["type"]))
        step = payload.get("step")
        head = f"{moment(event['occurred_at'], seconds=True)}  {kind}{f' ({printable(str(step))})' if step else ''}"
        self._screen.line(f"{head}  {who}, through {printable(str(event['source']))}", style="bold")
        pairs: list[tuple[str, str | Text]] = []
        if str(event["stream_type"]) == "approval":
            pairs += self._approval(event, payload)
        else:
            pairs += [one.pair(self._lookup) for one in self._differences(event, payload)]
        self._screen.pairs([*pairs, *self._notes(payload)], indent=4)

    def _differences(self, event: Json, payload: Json) -> list[Difference]:
        if "changes" in payload:
            changed = cast("dict[str, Json]", payload["changes"])
            after = self._currency
            if "currency" in changed and event["stream_type"] == "package":
                self._currency = changed["currency"]["from"]
            return differences(
                [(name, item["from"], item["to"]) for name, item in changed.items()],
                currencies=(self._currency, after),
            )
        fields = cast("Json", payload.get("fields") or {})
        own = fields.get("currency", self._currency)
        return differences(
            [
                (name, None, found)
                for name, found in fields.items()
                if found not in (None, "", {}, []) and name not in _INTERNAL
            ],
            fresh=True,
            currencies=(own, own),
        )

    def _approval(self, event: Json, payload: Json) -> list[tuple[str, str | Text]]:
        verb = str(event["type"]).partition(".")[2]
        pairs: list[tuple[str, str | Text]] = [("approval", short(event["stream_id"]))]
        if verb == "created":
            fields = cast("Json", payload["fields"])
            facts = cast("Json", fields["decision"]["facts"])
            for i, record in enumerate(cast("list[Json]", fields["diff"])):
                pairs += [one.pair(self._lookup) for one in _fields(record, facts, i)]
            pairs.append(("route", printable(f"{fields['route']}, rule {fields['decision']['rule']}")))
            if fields.get("reason"):
                pairs.append(("reason", value(fields["reason"])))
        elif verb == "decided":
            verdict = cast("Json", payload["verdict"])
            pairs.append(("said", value(verdict["verdict"])))
            if verdict.get("reason"):
                pairs.append(("because", value(verdict["reason"])))
        if payload.get("colliding"):
            pairs.append(("colliding", value([label(name) for name in payload["colliding"]])))
        return pairs

    def _notes(self, payload: Json) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        if payload.get("reason"):
            pairs.append(("reason", value(payload["reason"])))
        governance = cast("Json", payload.get("governance") or {})
        if governance:
            through = f", approval {short(governance['approval_id'])}" if governance.get("approval_id") else ""
            pairs.append(("rule", f"{printable(str(governance.get('rule')))}{through}"))
        return pairs
