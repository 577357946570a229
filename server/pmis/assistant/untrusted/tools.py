"""What a planner may call to learn of what others wrote: which texts there are, and the values in one of them.

A program over MCP has neither: what it proposes later comes without a turn, so nothing would say what it had read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from pmis.assistant.tools import Reference, named
from pmis.assistant.untrusted import texts
from pmis.assistant.untrusted.texts import Part, Type, Untrusted
from pmis.kit.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmis.assistant.answers import Asking
    from pmis.assistant.plan import Taken
    from pmis.assistant.untrusted.values import Values
    from pmis.kit.db import Session


class FindTexts(BaseModel):
    """List the texts about a package or task: e-mails, comments, descriptions. You learn where they are, not what they say."""  # noqa: E501

    model_config = ConfigDict(extra="forbid")

    type: Literal["package", "task"]
    record: Reference

    async def found(self, session: Session, asking: Asking) -> list[Any]:
        """Where they are; raises NotFoundError."""
        about = await named(session, asking, self.type, self.record)
        return await texts.about(session, asking, self.type, about.id)


class ReadText(BaseModel):
    """Take the values out of one text that others wrote: amounts, days, statuses, packages. You do not see its words."""  # noqa: E501

    model_config = ConfigDict(extra="forbid")

    type: Type
    record: Reference
    part: Part = Field(description="An e-mail's subject, text or attachment; a comment's body; else a field.")
    number: Annotated[int, Field(ge=1, le=50, description="Which attachment, of those in plain text.")] = 1

    async def text(self, session: Session, asking: Asking) -> Untrusted:
        """The text, for the extractor alone; raises NotFoundError."""
        if self.type in ("package", "task"):
            identity = (await named(session, asking, self.type, self.record)).id
        else:
            try:
                identity = UUID(self.record)
            except ValueError:
                raise NotFoundError("E-mails and comments are named by their id.") from None
        return await texts.find(session, asking, self.type, identity, self.part, self.number)


FIND_TEXTS: Final = "find_texts"
READ_TEXT: Final = "read_text"
READING: Final[Mapping[str, type[FindTexts | ReadText]]] = {FIND_TEXTS: FindTexts, READ_TEXT: ReadText}
"""The tools, by the name under which they are called."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text that was read, the values in it, and the packages among them that are there for who asks."""

    source: Taken
    values: Values
    packages: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def shown(self) -> dict[str, Any]:
        """What a planner is given: values and references."""
        source = {"type": self.source.type, "id": str(self.source.id), "part": self.source.part}
        return {
            "source": source,
            **self.values.model_dump(mode="json", exclude={"packages"}),
            "packages": self.packages,
        }

    def told(self) -> str:
        """What a person is told, in one sentence."""
        amounts = [f"{one.amount} {one.currency or ''}".rstrip() for one in self.values.amounts]
        days = [
            one.day if one.meaning == "other" else f"{one.day} ({one.meaning.replace('_', ' ')})"
            for one in self.values.days
        ]
        statuses = [one.replace("_", " ") for one in self.values.statuses]
        found = [*amounts, *days, *statuses, *(one["code"] for one in self.packages)]
        name = _place(self.source.part, self.source.type, str(self.source.id))
        return f"{name[0].upper()}{name[1:]} names {', '.join(found)}." if found else f"I found no values in {name}."

    def fields_of(self, patch: Mapping[str, Any]) -> tuple[str, ...]:
        """The fields of a patch whose value stands in the text."""
        amounts = {Decimal(one.amount) for one in self.values.amounts}
        currencies = {one.currency for one in self.values.amounts if one.currency}
        words = {
            *currencies,
            *(one.day for one in self.values.days),
            *self.values.statuses,
            *(one["id"] for one in self.packages),
        }
        return tuple(
            name for name, value in patch.items() if str(value) in words or (name == "amount" and _is(value, amounts))
        )


def _is(value: object, amounts: Iterable[Decimal]) -> bool:
    try:
        # A signalling NaN has no hash.
        return any(Decimal(str(value)) == one for one in amounts)
    except InvalidOperation:
        return False


def _place(part: str, kind: str, identity: str) -> str:
    """A text as people are told of it."""
    return f"the {part} of the {'e-mail' if kind == 'email' else kind} {identity}"


def provenance(sources: Iterable[Mapping[str, Any]]) -> str:
    """What stands before the reason of a proposal that was made after reading what others wrote; they are JSON."""
    told: list[str] = []
    for one in sources:
        fields = " and ".join(name.removesuffix("_id").replace("_", " ") for name in one["fields"])
        place = _place(one["part"], one["type"], one["id"])
        told.append(f"{fields} from {place}" if fields else place)
    return f"After reading what others wrote: {'; '.join(told)}." if told else ""
