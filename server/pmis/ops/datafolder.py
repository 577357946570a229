"""The data folder of `pmis up`: who holds it, its secrets, and where its embedded servers keep their files.

up.lock         held by the running `pmis up`; says who that is
secrets.json    passwords and keys, made once, readable by its owner alone
runtime.json    addresses of the servers that run now; other commands find them here
processes.json  what was started, so that the next `up` can end what a killed one left behind
logs/           one file per process, turned over by size
checkpoints/    signed statements about the log
servers/        PostgreSQL and Valkey; a link elsewhere when their user could not reach this folder
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from pmis.kit.errors import PmisError
from pmis.ops.postgres import generate_passwords
from pmis.ops.process import User, can_use, current_user, identity, named_user, stop, user_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_SERVER_HOME: Final = Path("/var/lib/pmis")


class DataFolderError(PmisError):
    """The data folder cannot be used; the text says why and what to do."""

    code = "data_folder"
    title = "The data folder cannot be used"


class AlreadyRunningError(DataFolderError):
    """Another `pmis up` holds the folder."""

    code = "already_running"
    title = "PMIS already runs"


@dataclass(frozen=True)
class Secrets:
    """What `up` generated once."""

    instance: str
    secret_key: str
    jwt_secret_key: str
    checkpoint_signing_key: str
    valkey_password: str
    postgres: Mapping[str, str]


class DataFolder:
    """One data folder, and the right to use it while `held`."""

    def __init__(self, path: Path) -> None:
        """Describe the folder; nothing is touched."""
        self.path = path.absolute()

    @property
    def servers(self) -> Path:
        """Where the embedded servers keep their files."""
        return self.path / "servers"

    @property
    def logs(self) -> Path:
        """Where every process's log is."""
        return self.path / "logs"

    @property
    def runtime_file(self) -> Path:
        """What other commands read to find the running servers."""
        return self.path / "runtime.json"

    @contextlib.contextmanager
    def held(self) -> Generator[IO[str]]:
        """Hold the folder for this process alone; raises AlreadyRunningError, which names the holder.

        The system gives the lock back when the process ends, however it ends, so a killed `up` leaves nothing to clear.
        """
        self._make()
        with (self.path / "up.lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise AlreadyRunningError(self._who_runs()) from None
            self.describe_holder(lock, url=None)
            yield lock

    @staticmethod
    def describe_holder(lock: IO[str], *, url: str | None) -> None:
        """Write into the lock who holds it and where to find it."""
        lock.seek(0)
        lock.truncate()
        json.dump({"pid": os.getpid(), "url": url}, lock)
        lock.flush()

    def is_held(self) -> bool:
        """Whether a `pmis up` runs from this folder now."""
        try:
            with (self.path / "up.lock").open("r", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def run_as(self, wanted: str) -> User:
        """Who the embedded servers run as: ourselves, or for root the owner of what is there, else the wanted user."""
        if os.geteuid() != 0:
            return current_user()
        files = self.servers / "postgres"
        if files.is_dir() and files.stat().st_uid != 0:
            return user_of(files)
        user = named_user(wanted)
        if user.uid == 0:
            raise DataFolderError("PMIS_RUN_AS is root, and PostgreSQL refuses to run as root. Name another user.")
        return user

    def prepare_servers(self, user: User, instance: str) -> str | None:
        """Make the servers' folder one that their user can reach; returns a note when it had to go elsewhere."""
        self.path.chmod(0o711 if user.uid != os.geteuid() else 0o700)
        note = None
        if not self.servers.exists():
            if self.servers.is_symlink():  # what it led to is gone, and with it the database
                raise DataFolderError(
                    f"{self.servers} leads to {self.servers.readlink()}, which is gone. Restore that folder, "
                    f"or remove {self.path} to begin anew."
                )
            self.servers.mkdir(mode=0o711)
            _give(self.servers, user)
            if not can_use(user, self.servers):
                self.servers.rmdir()
                home = _SERVER_HOME / instance
                home.mkdir(parents=True, exist_ok=True)
                for folder in (_SERVER_HOME, home):
                    folder.chmod(0o711)
                _give(home, user)
                self.servers.symlink_to(home)
        elif not can_use(user, self.servers.resolve()):
            raise DataFolderError(
                f"The user {user.name!r}, whom the embedded servers run as, cannot reach {self.servers}. "
                "Open the folders above it for others to pass through (chmod o+x), or use another --data-dir."
            )
        if self.servers.is_symlink():
            note = f"the servers' files are in {self.servers.readlink()}: {user.name!r} cannot reach {self.path}"
        return note

    def secrets(self) -> Secrets:
        """The folder's secrets, made now when there are none. Missing ones beside an existing database are an error."""
        path = self.path / "secrets.json"
        try:
            known = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            if (self.servers / "postgres").exists():
                raise DataFolderError(
                    f"{self.servers / 'postgres'} holds a database, but {path}, which has its passwords and keys, "
                    "is gone. "
                    f"Restore that file, or move {self.servers / 'postgres'} away to begin anew."
                ) from None
            known = {}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise DataFolderError(f"{path} cannot be read: {reason}.") from None
        fresh: dict[str, Any] = {
            "INSTANCE": secrets.token_hex(8),
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "CHECKPOINT_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "VALKEY_PASSWORD": secrets.token_urlsafe(32),
            "POSTGRES": generate_passwords(),
        }
        merged = {**fresh, **known}
        # A version that brings further logins finds passwords for those that an earlier one made.
        merged["POSTGRES"] = {**fresh["POSTGRES"], **merged["POSTGRES"]}
        if merged != known:
            write_private(path, merged)
        return Secrets(
            instance=str(merged["INSTANCE"]),
            secret_key=str(merged["SECRET_KEY"]),
            jwt_secret_key=str(merged["JWT_SECRET_KEY"]),
            checkpoint_signing_key=str(merged["CHECKPOINT_SIGNING_KEY"]),
            valkey_password=str(merged["VALKEY_PASSWORD"]),
            postgres=cast("dict[str, str]", merged["POSTGRES"]),
        )

    def runtime(self) -> dict[str, Any]:
        """What the last `up` said about itself; empty when it ended in good order."""
        return _read(self.runtime_file)

    def record_processes(self, identities: Mapping[str, str]) -> None:
        """Remember what runs, by name."""
        write_private(self.path / "processes.json", dict(identities))

    def end_leftovers(self) -> list[str]:
        """End what a killed `up` left running; returns the names. A number given to another process since is let be."""
        ended: list[str] = []
        for name, known in _read(self.path / "processes.json").items():
            pid = int(str(known).partition(":")[0])
            if identity(pid) != known:
                continue
            # PostgreSQL takes an interrupt as "end now, in good order" and a termination as "wait for every client".
            first = signal.SIGINT if name == "postgres" else signal.SIGTERM
            stop(pid, ((first, 10.0), (signal.SIGKILL, 5.0)))
            ended.append(name)
        (self.path / "processes.json").unlink(missing_ok=True)
        return ended

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataFolderError(
                f"The data folder {self.path} cannot be made: {error.strerror}. "
                "Name another with --data-dir or PMIS_DATA_DIR."
            ) from None
        owner = self.path.stat().st_uid
        if owner != os.geteuid() and os.geteuid() != 0:
            raise DataFolderError(
                f"The data folder {self.path} belongs to {user_of(self.path).name!r}. "
                "Run PMIS as that user, or name another folder with --data-dir or PMIS_DATA_DIR."
            )

    def _who_runs(self) -> str:
        holder = _read(self.path / "up.lock")
        url = holder.get("url")
        where = f"at {url}" if url else "and is still starting"
        return f"PMIS already runs from this folder (pid {holder.get('pid', 'unknown')}) {where}."


def _give(folder: Path, user: User) -> None:
    if user.uid != os.geteuid():
        os.chown(folder, user.uid, user.gid)


def log_folder() -> Path:
    """Where the command line keeps its traces."""
    from pmis.kit.settings import default_data_dir  # noqa: PLC0415 - loads slowly, and `pmis up` is in a hurry

    folder = Path(os.environ.get("PMIS_DATA_DIR") or default_data_dir()) / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def write_private(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file at once, readable by its owner alone."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=2)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
