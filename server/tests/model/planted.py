"""Bugs to be planted: each breaks one promise, and the machine that follows the promises must find it."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pmis.approval import decide, governed, propose
from pmis.approval.models import ApprovalProjection
from pmis.comment.noun import CommentNoun
from pmis.kit.db import WriteSession
from pmis.ledger import idempotency, projection
from pmis.memory.noun import MemoryNoun
from pmis.package.noun import PackageNoun
from pmis.party.noun import PartyNoun
from pmis.policy import approvers, arbitrate
from tests.model.oracle import Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import TestDatabase


@dataclass(frozen=True)
class Garden:
    """Where a bug is planted: the program in this process, and the database it runs on."""

    patch: Any
    database: TestDatabase

    def rewrite(self, owner: Any, name: str, *changes: tuple[str, str]) -> None:
        """Put a function in place of itself, with other words in its text. A plant that no longer fits is an error."""
        original = inspect.getattr_static(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        for old, new in changes:
            assert source.count(old) == 1, (
                f"the plant in {name} is stale: {old!r} stands there {source.count(old)} times"
            )
            source = source.replace(old, new)
        made: dict[str, Any] = {}
        flags = __future__.annotations.compiler_flag
        exec(compile(source, f"<planted {name}>", "exec", flags), original.__globals__, made)
        self.patch.setattr(owner, name, made[name])

    def reword(self, owner: Any, name: str, old: str, new: str) -> None:
        """Put other words into a statement that a module holds."""
        text: str = getattr(owner, name)
        assert text.count(old) == 1, f"the plant in {name} is stale: {old!r} stands there {text.count(old)} times"
        self.patch.setattr(owner, name, text.replace(old, new))

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.database.admin_dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def rewrite_sql(self, name: str, old: str, new: str) -> None:
        with psycopg.connect(self.database.admin_dsn, autocommit=True) as connection:
            row = connection.execute("select pg_get_functiondef(%s::regproc)", (name,)).fetchone()
            source = row[0] if row else ""
            assert source.count(old) == 1, (
                f"the plant in {name} is stale: {old!r} stands there {source.count(old)} times"
            )
            connection.execute(source.replace(old, new))  # pyright: ignore[reportCallIssue, reportArgumentType]


def _statement_lost(words: str) -> Callable[[Garden], None]:
    def plant(garden: Garden) -> None:
        real = WriteSession.defer

        def defer(self: WriteSession, *given: Any) -> None:
            if not any(isinstance(one, str) and words in one for one in given):
                real(self, *given)

        garden.patch.setattr(WriteSession, "defer", defer)

    return plant


def applied_twice(garden: Garden) -> None:
    real = propose.append

    def append(session: Any, noun: Any, entity: Any, facts: Any, **more: Any) -> Any:
        twice = noun.stream_type == "package" and entity is not None
        return real(session, noun, entity, [*facts, *facts] if twice else facts, **more)

    garden.patch.setattr(propose, "append", append)


def approvals_apply_again(garden: Garden) -> None:
    garden.rewrite(
        decide, "_require_open", ("approval.status not in statuses", "approval.status not in (*statuses, 'applied')")
    )
    garden.patch.setattr(decide, "_drift", _nothing)


async def _nothing(*_: Any, **__: Any) -> None:
    return None


def digest_unchecked(garden: Garden) -> None:
    garden.patch.setattr(decide, "_require_digest", lambda *_: None)


def proposer_approves(garden: Garden) -> None:
    real = decide._round
    garden.patch.setattr(decide, "_round", lambda *given: replace(real(*given), proposers=frozenset()))


def drift_ignored(garden: Garden) -> None:
    garden.patch.setattr(decide, "_drift", _nothing)


def void_lost(garden: Garden) -> None:
    garden.patch.setattr(propose, "_void_drifted", lambda *_, **__: None)


def if_match_ignored(garden: Garden) -> None:
    garden.rewrite(propose, "judge", ("if one.if_version is not None", "if False"))


def field_forgotten(garden: Garden) -> None:
    real = projection.Projection.change

    def change(self: Any, entity: Any, event: Any, payload: Any) -> Any:
        return {name: value for name, value in real(self, entity, event, payload).items() if name != "title"}

    garden.patch.setattr(projection.Projection, "change", change)


def row_goes_astray(garden: Garden) -> None:
    garden.sql(
        "create function public.stray() returns trigger language plpgsql as "
        "$$begin new.doc := replace(new.doc, 'A task', 'A tusk'); return new; end$$",
        "create trigger aa_stray before update on state.task for each row execute function public.stray()",
    )


def row_without_event(garden: Garden) -> None:
    garden.sql(*(f"alter table state.{noun} disable trigger {noun}_needs_its_event" for noun in ("package", "task")))
    _statement_lost("ledger.append_event")(garden)


def quorum_of_one(garden: Garden) -> None:
    garden.patch.setattr(decide, "is_complete", lambda _: True)


def expiry_ignored(garden: Garden) -> None:
    garden.rewrite(decide, "_require_open", ("if approval.is_open and", "if False and"))


def expiry_never_runs(garden: Garden) -> None:
    garden.patch.setattr(decide, "expire_due", _nothing)


def delegate_of_proposer_counts(garden: Garden) -> None:
    garden.patch.setattr(approvers.Round, "barred", lambda _: frozenset())


def one_person_counts_twice(garden: Garden) -> None:
    garden.patch.setattr(approvers.Round, "counted", lambda _: frozenset())
    garden.rewrite(approvers, "_missing", ("people.isdisjoint(pair) and ", ""))


def delegations_never_end(garden: Garden) -> None:
    garden.patch.setattr(approvers.Delegation, "is_active", lambda *_: True)
    garden.reword(decide, "_PANELS", " and d.ends_at > %(at)s", "")


def taken_back_seats_count(garden: Garden) -> None:
    garden.reword(decide, "_PANELS", " and not d.revoked", "")


def agents_confirm(garden: Garden) -> None:
    garden.rewrite(decide, "confirm", ("may_confirm(", "(lambda *_: None)("))


def anybody_withdraws(garden: Garden) -> None:
    garden.rewrite(decide, "withdraw", ("if own is None or own != approval.proposer.person_id", "if False"))


def floors_lost(garden: Garden) -> None:
    garden.patch.setattr(arbitrate, "_floors", lambda *_: iter(()))


def tiers_lost(garden: Garden) -> None:
    garden.patch.setattr(arbitrate, "_tier_steps", lambda *_: iter(()))


def first_of_a_bundle_rules(garden: Garden) -> None:
    garden.rewrite(arbitrate, "arbitrate_all", ("max(judgements, key=lambda one: one.route.severity)", "judgements[0]"))
    garden.patch.setattr(propose, "arbitrate_all", arbitrate.arbitrate_all)


def frozen_is_changed(garden: Garden) -> None:
    garden.patch.setattr(governed.Noun, "_require_thawed", lambda *_: None)


def deleted_is_changed(garden: Garden) -> None:
    garden.rewrite(governed.Noun, "decide", ("raise DeletedRecordError(", "(lambda *_: None)("))


def guards_ignored(garden: Garden) -> None:
    garden.patch.setattr(governed, "_content", lambda *_: True)


_GIVEN_OUT: Final = 'session.defer("select state.number_package(%s, %s)", (home, number))'


def numbers_repeat(garden: Garden) -> None:
    garden.rewrite(PackageNoun, "numbered", (_GIVEN_OUT, "pass"))


def numbers_skip(garden: Garden) -> None:
    garden.rewrite(PackageNoun, "numbered", (_GIVEN_OUT, f"{_GIVEN_OUT}; number += 1"))


def approval_unnamed(garden: Garden) -> None:
    garden.rewrite(
        decide,
        "_apply",
        ('"route": approval.route,\n', '"route": "AUTO",\n'),
        ('"approval_id": str(approval.id),\n        "digest"', '"digest"'),
    )


def decided_change_is_another(garden: Garden) -> None:
    garden.rewrite(
        decide,
        "_apply",
        (
            "change.operation, change.target, change.patch",
            "change.operation, change.target, {**change.patch, **({'title': 'Mine'} if 'title' in change.patch else {})}",  # noqa: E501
        ),
    )


def keys_forgotten(garden: Garden) -> None:
    real = idempotency.settle
    garden.patch.setattr(
        idempotency, "settle", lambda session, held, answer: real(session, held, replace(answer, body=b"{}"))
    )


def keys_for_any_body(garden: Garden) -> None:
    garden.rewrite(idempotency, "claim", ("if bytes(known) != print_", "if False"))


def rights_unchecked(garden: Garden) -> None:
    garden.patch.setattr(propose, "require_right", lambda *_: None)


def outsiders_see_approvals(garden: Garden) -> None:
    garden.patch.setattr(decide, "allowed", lambda *_: True)


def comments_of_others(garden: Garden) -> None:
    garden.patch.setattr(CommentNoun, "decide", governed.Noun.decide)


def memories_of_others(garden: Garden) -> None:
    garden.patch.setattr(MemoryNoun, "own_facts", governed.Noun.own_facts)


def bank_details_in_clear(garden: Garden) -> None:
    async def seal(_: Any, __: Any, ___: Any, ____: Any, patch: dict[str, Any]) -> dict[str, Any]:
        details = patch.get("bank_details")
        return {**patch, "bank_details": details["account"]} if isinstance(details, dict) else patch

    garden.patch.setattr(PartyNoun, "seal", seal)


def order_ignored(garden: Garden) -> None:
    garden.rewrite(approvers, "open_steps", ("round_.order is Order.PARALLEL or not waiting", "True"))


def everybody_is_alone(garden: Garden) -> None:
    garden.patch.setattr(approvers, "_stands_alone", lambda *_: True)


def rejected_goes_on(garden: Garden) -> None:
    garden.rewrite(ApprovalProjection, "change", ('"reject": "rejected", ', ""))
    garden.patch.setattr(approvers, "is_closed", lambda _: False)


def chain_broken(garden: Garden) -> None:
    garden.rewrite_sql("ledger.append_event", "if p_stream_version > 1 then", "if p_stream_version > 1000 then")


def actor_not_hashed(garden: Garden) -> None:
    garden.rewrite_sql(
        "ledger.content_hash", "e.schema_version, e.actor, e.actor_name,", "e.schema_version, 'x', e.actor_name,"
    )


PLANTS: Final[dict[str, Callable[[Garden], None]]] = {
    plant.__name__: plant
    for plant in (
        applied_twice,
        approvals_apply_again,
        digest_unchecked,
        proposer_approves,
        drift_ignored,
        void_lost,
        if_match_ignored,
        field_forgotten,
        row_goes_astray,
        row_without_event,
        quorum_of_one,
        expiry_ignored,
        expiry_never_runs,
        delegate_of_proposer_counts,
        one_person_counts_twice,
        delegations_never_end,
        taken_back_seats_count,
        agents_confirm,
        anybody_withdraws,
        floors_lost,
        tiers_lost,
        first_of_a_bundle_rules,
        frozen_is_changed,
        deleted_is_changed,
        guards_ignored,
        numbers_repeat,
        numbers_skip,
        approval_unnamed,
        decided_change_is_another,
        keys_forgotten,
        keys_for_any_body,
        rights_unchecked,
        outsiders_see_approvals,
        comments_of_others,
        memories_of_others,
        bank_details_in_clear,
        order_ignored,
        everybody_is_alone,
        rejected_goes_on,
        chain_broken,
        actor_not_hashed,
    )
} | {
    "event_without_row": _statement_lost("state.set_package("),
    "row_never_made": _statement_lost("state.add_task("),
    "search_forgotten": _statement_lost("state.put_search("),
}


@dataclass(frozen=True)
class Where:
    """Where to look for a bug that shows only now and then: in which moves, and under which policy."""

    moves: tuple[str, ...]
    rules: Rules | None = None


WHERE: Final[dict[str, Where]] = {
    "approvals_apply_again": Where(("agree", "say", "chief_agrees")),
    "bank_details_in_clear": Where(("party",)),
    "comments_of_others": Where(("comment",)),
    "delegate_of_proposer_counts": Where(("lend_and_vote",)),
    "delegations_never_end": Where(("lend_and_vote",)),
    "deleted_is_changed": Where(("remove", "agree", "patch_package", "party")),
    "digest_unchecked": Where(("ask", "chief_agrees")),
    "drift_ignored": Where(("ask", "policy", "agree_to_the_end", "march")),
    "expiry_ignored": Where(("ask", "come_too_late")),
    "expiry_never_runs": Where(("ask", "expire")),
    "first_of_a_bundle_rules": Where(("bundle",)),
    "frozen_is_changed": Where(("finish",)),
    "guards_ignored": Where(("march",)),
    "if_match_ignored": Where(("patch_package",)),
    "memories_of_others": Where(("memory",)),
    "one_person_counts_twice": Where(("lend_and_vote",), Rules(two_admins=True)),
    "order_ignored": Where(("ask", "chief_agrees"), Rules(serial=True)),
    "outsiders_see_approvals": Where(("ask", "say", "meddle")),
    "taken_back_seats_count": Where(("lend_and_vote",)),
}
