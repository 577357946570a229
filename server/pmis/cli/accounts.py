"""Who is signed in where: one file for each account, readable by its owner alone.

An account belongs to the server it was made at; its tokens are never sent to another. The access token is good for
minutes; the refresh token, good once, gives the next pair, which one command at a time asks for. Which account acts:
`--as NAME`, else the token in PMIS_TOKEN, else the account that PMIS_PROFILE names, else the account `default`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from pmis.kit.errors import PmisError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Generator

DEFAULT: Final = "default"
_EARLY: Final = timedelta(seconds=20)
"""How long before its end an access token is renewed."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS: Final = re.compile(r"[^\s\\\x00-\x1f\x7f]{1,300}")
_OTHERS: Final = 0o077


class AccountError(PmisError):
    """The kept accounts cannot be used; the text says why and what to do."""

    code = "account"
    title = "The sign-in cannot be kept or read"


class AddressError(PmisError):
    """That is not the address of an API."""

    code = "address"
    title = "Not an address"


class NotSignedInError(UnauthenticatedError):
    """No account to act as; the text says how to sign in."""


@dataclass(frozen=True)
class Account:
    """Somebody who signed in at a server. `profile` is None for a token that came from PMIS_TOKEN.

    The sign-in ends at `expires_at` unless it is used before; the access token at `token_expires_at`.
    """

    url: str
    token: str = field(repr=False)
    profile: str | None = None
    email: str | None = None
    name: str | None = None
    expires_at: str | None = None
    refresh_token: str | None = field(default=None, repr=False)
    token_expires_at: str | None = None

    @property
    def login_command(self) -> str:
        """The command that signs in again."""
        words = ["pmis", "login", *([self.email] if self.email else [])]
        return " ".join([*words, *(["--as", self.profile] if self.profile not in (None, DEFAULT) else [])])

    @property
    def has_expired(self) -> bool:
        """Whether the sign-in is past its time, by this machine's clock."""
        return _is_past(self.expires_at, datetime.now(UTC))

    @property
    def needs_renewal(self) -> bool:
        """Whether the access token is past its time, or almost, and there is a refresh token to renew it with."""
        return self.refresh_token is not None and _is_past(self.token_expires_at, datetime.now(UTC) + _EARLY)


def _is_past(moment: str | None, now: datetime) -> bool:
    if moment is None:
        return False
    try:
        return datetime.fromisoformat(moment) <= now
    except (ValueError, TypeError):  # somebody edited the file; the server knows
        return False


_FIELDS: Final = frozenset(one.name for one in fields(Account)) - {"profile"}


def folder() -> Path:
    """Where accounts are kept; raises AccountError when there is no such place."""
    if given := os.environ.get("PMIS_CONFIG_DIR"):
        return Path(given) / "accounts"
    if base := os.environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "pmis" / "accounts"
    try:
        return Path.home() / ".config" / "pmis" / "accounts"
    except RuntimeError:  # a container's user without a passwd entry
        raise AccountError(
            "There is no home folder to keep the sign-in in. Name a folder with PMIS_CONFIG_DIR."
        ) from None


def profile_name(given: str | None) -> str:
    """The name of the account that `--as` or PMIS_PROFILE chooses; raises AccountError for one that is none."""
    name = given or os.environ.get("PMIS_PROFILE") or DEFAULT
    if not _NAME.fullmatch(name):
        raise AccountError(
            f"{name[:80]!r} cannot name an account: use up to 64 letters, digits, dots, dashes and underscores."
        )
    return name


def read(profile: str) -> Account | None:
    """The kept account of that name; raises AccountError when others could have read it."""
    path = folder() / f"{profile}.json"
    try:
        with path.open(encoding="utf-8") as handle:
            if os.fstat(handle.fileno()).st_mode & _OTHERS:
                raise AccountError(
                    f"{path} can be read by other users of this machine. Run `chmod 600 {path}`, or sign in again."
                )
            known: object = json.load(handle)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged; sign in again"
        raise AccountError(f"{path} cannot be read: {reason}.") from None
    values = cast("dict[str, Any]", known) if isinstance(known, dict) else {}
    sound = {"url", "token"} <= set(values) <= _FIELDS and all(
        isinstance(one, str) or (one is None and name not in ("url", "token")) for name, one in values.items()
    )
    if not sound:
        raise AccountError(f"{path} is not what this version of PMIS writes. Sign in again.")
    return Account(**{**values, "profile": profile})


def keep(account: Account) -> Path:
    """Keep the account, replacing the one of that name at once; raises AccountError when it cannot be written."""
    path = folder() / f"{account.profile}.json"
    fresh: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes the file readable by its owner alone, so the token is never anywhere with other rights.
        number, fresh = tempfile.mkstemp(prefix=f".{account.profile}.", dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as handle:
            json.dump({name: value for name, value in asdict(account).items() if name != "profile"}, handle, indent=2)
            handle.flush()
            os.fsync(handle.fileno())
        Path(fresh).replace(path)
    except OSError as error:
        if fresh is not None:
            Path(fresh).unlink(missing_ok=True)
        raise AccountError(
            f"The sign-in cannot be kept in {path.parent}: {error.strerror}. Name another folder with PMIS_CONFIG_DIR."
        ) from None
    return path


@contextlib.contextmanager
def alone(profile: str) -> Generator[None]:
    """Wait until no other command renews the account; raises AccountError when there is no place for the lock."""
    path = folder() / f".{profile}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AccountError(
            f"The sign-in cannot be kept in {path.parent}: {error.strerror}. Name another folder with PMIS_CONFIG_DIR."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def forget(profile: str) -> bool:
    """Remove the account; says whether there was one."""
    path = folder() / f"{profile}.json"
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise AccountError(f"{path} cannot be removed: {error.strerror}.") from None
    return True


def kept() -> list[str]:
    """The names of all accounts."""
    with contextlib.suppress(OSError):
        return sorted(path.stem for path in folder().glob("*.json"))
    return []


def current(given: str | None) -> Account:
    """The account to act as; raises NotSignedInError, which says how to sign in."""
    if given is None and (token := os.environ.get("PMIS_TOKEN")):
        return Account(url=default_url(), token=token)
    profile = profile_name(given)
    account = read(profile)
    if account is None:
        others = [name for name in kept() if name != profile]
        choice = f", or choose one of those who are with --as: {', '.join(others)}" if others else ""
        command = "pmis login" if profile == DEFAULT else f"pmis login --as {profile}"
        who = "You are not signed in" if profile == DEFAULT else f"Nobody is signed in as {profile!r}"
        raise NotSignedInError(f"{who}. Run `{command}`{choice}.")
    wanted = os.environ.get("PMIS_URL")
    if wanted and address(wanted) != account.url:
        raise NotSignedInError(
            f"{profile!r} is signed in at {account.url}, and PMIS_URL names {address(wanted)}. "
            f"Run `{account.login_command}` to sign in there, or unset PMIS_URL."
        )
    return account


def default_url() -> str:
    """Where the API is when nobody says otherwise: PMIS_URL, what `pmis up` serves, or what the settings name."""
    if given := os.environ.get("PMIS_URL"):
        return address(given)
    from pmis.kit.settings import load_settings  # noqa: PLC0415 - loads slowly, and only some commands need it

    return address(load_settings().url)


def address(text: str) -> str:
    """The address of an API without what may stand at its end; raises AddressError."""
    url = text.strip().rstrip("/").removesuffix("/api/v1").removesuffix("/api")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        parts, sound = None, False
    if parts is None or not sound or parts.query or parts.fragment or parts.username or not _ADDRESS.fullmatch(url):
        raise AddressError(f"{text[:200]!r} is not the address of an API, such as http://127.0.0.1:8000.")
    return url


def is_local(url: str) -> bool:
    """Whether the address leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
