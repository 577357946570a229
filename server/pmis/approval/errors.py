"""The ways the governed path says no."""

from __future__ import annotations

from typing import ClassVar

from pmis.kit.errors import ConflictError, ForbiddenError, PmisError


class PolicyRefusedError(ForbiddenError):
    """The policy answers REJECT, or this role may not propose this."""

    code = "policy_refused"
    title = "The policy refuses this change"


class NothingToChangeError(ConflictError):
    """Every field already has the proposed value."""

    code = "nothing_to_change"
    status = 422
    title = "There is nothing to change"


class FrozenRecordError(ConflictError):
    """The record is completed or cancelled; only reopening changes it."""

    code = "record_frozen"
    title = "This record is frozen"


class DeletedRecordError(ConflictError):
    """The record was deleted; restore it first."""

    code = "record_deleted"
    title = "This record was deleted"


class GuardRefusedError(ConflictError):
    """The change needs something that is missing; `missing` lists it."""

    code = "guard_refused"
    title = "Something is missing for this change"


class BadReferenceError(ConflictError):
    """A field names something that does not exist in this project."""

    code = "bad_reference"
    status = 422
    title = "A field refers to something that is not there"


class AlreadyExistsError(ConflictError):
    """A unique value is taken."""

    code = "already_exists"
    title = "This value is taken"


class ApprovalClosedError(ConflictError):
    """The approval no longer waits."""

    code = "approval_closed"
    title = "This approval is closed"


class ApprovalVoidError(ConflictError):
    """What was proposed no longer fits what is there; `colliding` names the fields."""

    code = "approval_void"
    title = "The record moved on; propose again"
    commits: ClassVar[bool] = True


class ApprovalExpiredError(ConflictError):
    """Nobody decided in time."""

    code = "approval_expired"
    title = "This approval has expired"
    commits: ClassVar[bool] = True


class DigestMismatchError(ConflictError):
    """The content that was shown is not the content that waits."""

    code = "digest_mismatch"
    title = "This is not the content you saw"


class StepUpNeededError(ForbiddenError):
    """What is asked for needs that one proved lately who one is."""

    code = "step_up_needed"
    title = "Prove again who you are"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "This needs a fresh proof of who you are. Give your password again (POST /auth/reauthenticate, "
            "`pmis reauthenticate`), or sign in at your provider with `fresh=true`, and repeat it."
        )


class MayNotDecideError(PmisError):
    """This person cannot decide this approval; `why` is a stable word for it."""

    code = "may_not_decide"
    status = 403
    title = "You cannot decide this"
