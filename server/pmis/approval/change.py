"""A change: what a writer proposes, frozen, so that it can wait, be digested, be shown and be decided again."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from pmis.kit.canonical import canonical, sha256_hex

Operation = Literal["create", "patch", "transition", "delete", "restore"]


class Change(BaseModel):
    """One change of one record. `patch` is JSON in the noun's own fields; a transition's patch holds `status`.

    `base_version` is the version the change was made for: 0 for a record that does not exist yet.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    operation: Operation
    target_type: str
    target: UUID
    project_id: UUID | None
    patch: dict[str, Any]
    base_version: int


def digest(changes: list[Change], policy_version: int) -> str:
    """What an approval is bound to: SHA-256 of the canonical changes, their base versions and the policy's version."""
    return sha256_hex(
        canonical(
            {
                "changes": [change.model_dump(mode="json") for change in changes],
                "format": "pmis-change-v1",
                "policy_version": policy_version,
            }
        )
    )
