"""The planner that works without any model: a grammar, and the records that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmis.assistant.plan import Plan
    from pmis.assistant.work import Heard, Sessions
    from pmis.policy.access import Principal


class Grammar:
    """The same words in the same state always give the same plan."""

    name = "grammar"

    async def plan(self, sessions: Sessions, principal: Principal, heard: Heard) -> Plan:
        """The plan; never raises for anything that a person may say."""
        from pmis.assistant.planner import plan  # noqa: PLC0415 - few processes chat

        async with sessions() as session:
            return await plan(
                heard.text,
                session=session,
                principal=principal,
                now=heard.now,
                zone=heard.zone,
                project=heard.project,
                before=heard.before,
            )

    async def close(self) -> None:
        """Nothing is held."""
