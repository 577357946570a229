"""The policy: read it, ask it, propose another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import typer

from pmis.cli import options
from pmis.cli.approvals import outcome
from pmis.cli.client import Api, BadArgumentError, connected
from pmis.cli.governed import Level
from pmis.cli.lookup import Lookup
from pmis.cli.output import Column, Screen
from pmis.cli.output import as_json as print_json
from pmis.cli.text import moment, money, printable, value

if TYPE_CHECKING:
    from pmis.cli.client import Answer, Json

app = typer.Typer(name="policy", help="The policy: read it, ask it, propose another.", no_args_is_help=True)
_LARGEST_FILE: Final = 1024 * 1024


@app.command()
def show(
    document: bool = typer.Option(False, "--document", help="Print the document alone, to edit and to propose."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Show the policy in force."""
    with connected(account, as_json=as_json) as api:
        answer = api.get("policy")
        if as_json:
            print_json(answer.body)
        elif document:
            typer.echo(json.dumps(answer.json["document"], ensure_ascii=False, indent=2))
        else:
            _show(answer.json, Lookup(api))


def _show(record: Json, lookup: Lookup) -> None:
    found = cast("Json", record["document"])
    screen = Screen()
    screen.line(f"{printable(str(found.get('name')))}, version {record['version']}", style="bold")
    screen.line(f"in force since {moment(record['updated_at'])} UTC")
    levels = [level.value for level in Level]
    matrix = cast("dict[str, dict[str, str]]", found["matrix"])
    screen.line()
    screen.table(
        [
            Column("IMPACT \\ UNCERTAINTY", lambda row, _: str(row["level"])),
            *[_route_column(level) for level in levels],
        ],
        [{"level": level, **matrix[level]} for level in levels],
        lookup,
    )
    screen.line()
    floors = cast("list[Json]", found.get("floors") or [])
    screen.table(
        [
            Column("NEVER BELOW", lambda row, _: printable(str(row["route"]))),
            Column("RULE", lambda row, _: printable(str(row["id"]))),
            Column("BECAUSE", lambda row, _: printable(str(row["text"])), flexible=True),
        ],
        floors,
        lookup,
    )
    tiers = cast("list[Json]", cast("Json", found.get("tiers") or {}).get("levels") or [])
    if tiers:
        screen.line()
        screen.table(
            [
                Column("ABOVE", _above),
                Column("ALSO AGREES", lambda row, _: printable(str(cast("Json", row["step"])["name"])), flexible=True),
            ],
            tiers,
            lookup,
        )


def _above(tier: Json, _lookup: Lookup) -> str:
    limits = cast("dict[str, str]", tier["above"])
    return " or ".join(money(amount, "of any currency" if code == "*" else code) for code, amount in limits.items())


def _route_column(level: str) -> Column:
    return Column(level, lambda row, _: printable(str(row[level])))


@app.command()
def explain(
    operation: str = typer.Argument(metavar="OPERATION", help="create, patch, transition, delete or restore."),
    target_type: str = typer.Argument(metavar="TYPE", help="package, task, party, project, ..."),
    status: str | None = typer.Option(None, help="The status the record has."),
    to: str | None = typer.Option(None, "--to", metavar="STATUS", help="The status a transition leads to."),
    field: list[str] = typer.Option([], "--field", metavar="FIELD", help="A field that changes. May be repeated."),
    first: list[str] = typer.Option(
        [], "--first", metavar="FIELD", help="A field that changes and was empty before. May be repeated."
    ),
    amount_before: str | None = typer.Option(None, metavar="DECIMAL", help="The amount before."),
    amount_after: str | None = typer.Option(None, metavar="DECIMAL", help="The amount after."),
    currency: str | None = typer.Option(None, metavar="CODE", help="The currency of both amounts and of the budget."),
    budget: str | None = typer.Option(None, metavar="DECIMAL", help="The project's budget."),
    slip_days: int = typer.Option(0, metavar="N", help="By how many days the planned end moves away."),
    writer: str = typer.Option("person", help="Who writes: person, agent, import, email, service or system."),
    impact: Level | None = typer.Option(None, help="The impact as the writer states it."),
    uncertainty: Level | None = typer.Option(None, help="The uncertainty as the writer states it."),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Ask what the policy would say to a change, and why. Nothing is written.

    For a change of a record that exists, `pmis package propose P-001 ... --dry-run` asks the same with the record's own
    facts.
    """
    fields = [*field, *first]
    if (amount_before is not None or amount_after is not None) and amount_before != amount_after:
        fields.append("amount")
    facts: dict[str, Any] = {
        "operation": operation,
        "target_type": target_type,
        "writer": writer,
        "status": status,
        "to_status": to,
        "fields": sorted(set(fields)),
        "first_set": sorted(set(first)),
        "amount_before": amount_before,
        "amount_after": amount_after,
        "currency_before": currency if amount_before is not None else None,
        "currency_after": currency if amount_after is not None else None,
        "budget": budget,
        "budget_currency": currency if budget is not None else None,
        "slip_days": slip_days,
        "impact_level": impact.value if impact else None,
        "uncertainty_level": uncertainty.value if uncertainty else None,
    }
    with connected(account, as_json=as_json) as api:
        answer = _simulated(api, {name: found for name, found in facts.items() if found is not None})
    if as_json:
        print_json(answer.body)
        return
    for line in cast("list[str]", answer.json["explanation"]):
        Screen().line(printable(line))


@app.command()
def simulate(
    file: str = typer.Argument(
        metavar="FILE", help="JSON: the facts of one hypothetical change, or a list; - is standard input."
    ),
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Ask the policy about many hypothetical changes at once, each given by its facts. Nothing is written."""
    found = _read_json(file)
    cases = cast("list[Any]", found) if isinstance(found, list) else [found]
    if not cases or not all(isinstance(case, dict) for case in cases):
        raise BadArgumentError(f"{file} holds neither the facts of a change (a JSON object) nor a list of such.")
    with connected(account, as_json=as_json) as api:
        answers = [_simulated(api, case) for case in cases]
        if as_json:
            print_json(
                answers[0].body if not isinstance(found, list) else b"[" + b",".join(a.body for a in answers) + b"]"
            )
            return
        Screen().table(
            [
                Column("#", lambda row, _: str(row["#"]), right=True),
                Column(
                    "CHANGE",
                    lambda row, _: printable(f"{row['case'].get('operation')} {row['case'].get('target_type')}"),
                ),
                Column("ROUTE", lambda row, _: printable(str(row["said"]["route"]))),
                Column("SCORE", lambda row, _: str(row["said"]["score"]), right=True),
                Column("RULE", lambda row, _: printable(str(row["said"]["rule"]))),
                Column(
                    "WHO MUST AGREE",
                    lambda row, _: value([step["name"] for step in row["said"]["steps"]]),
                    flexible=True,
                ),
            ],
            [
                {"#": i, "case": case, "said": answer.json}
                for i, (case, answer) in enumerate(zip(cases, answers, strict=True), 1)
            ],
            Lookup(api),
        )


def _simulated(api: Api, facts: dict[str, Any]) -> Answer:
    return api.send("POST", "policy", "simulate", body=facts)


@app.command()
def propose(
    file: str = typer.Argument(metavar="FILE", help="The whole new document (JSON); - is standard input."),
    reason: str | None = options.REASON,
    if_match: int | None = options.IF_MATCH,
    key: str | None = options.KEY,
    account: str | None = options.AS,
    as_json: bool = options.JSON,
) -> None:
    """Propose another policy. It is in force once the policy's own rules for that have been satisfied.

    Begin with `pmis policy show --document > policy.json`.
    """
    document = _read_json(file)
    if not isinstance(document, dict):
        raise BadArgumentError(f"{file} does not hold a policy: a policy is a JSON object.")
    with connected(account, as_json=as_json) as api:
        answer = api.send(
            "PATCH", "policy", body={"document": document, **options.said(reason)}, key=key, if_match=if_match
        )
        outcome(answer, Lookup(api), operation="patch", json=as_json, kind="policy")


def _read_json(file: str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value in a file; raises BadArgumentError that says what is wrong with it."""
    name = "standard input" if file == "-" else printable(file)
    try:
        raw = sys.stdin.buffer.read(_LARGEST_FILE + 1) if file == "-" else _read(Path(file))
        if len(raw) > _LARGEST_FILE:
            raise BadArgumentError(f"{name} is larger than {_LARGEST_FILE} bytes.")
        return json.loads(raw.decode())
    except OSError as error:
        raise BadArgumentError(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise BadArgumentError(f"{name} is not valid UTF-8 text (byte {error.start}).") from None
    except ValueError as error:
        raise BadArgumentError(f"{name} is not valid JSON: {error}.") from None
    except RecursionError:
        raise BadArgumentError(f"{name} is nested too deep.") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(_LARGEST_FILE + 1)
