"""The command line's side of the API: requests with their retries, and lists that follow their pages.

Every request that changes something carries an `Idempotency-Key`. When the connection breaks, or the server says that
it is busy, the same request is sent again under the same key, so it takes effect once however often it arrives.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import typer

from pmis.cli import accounts
from pmis.cli.text import printable
from pmis.kit.errors import PmisError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    import httpx2

    from pmis.cli.accounts import Account

    Json = dict[str, Any]

BASE: Final = "/api/v1"
PAGE: Final = 200
"""How many records the API gives at most at a time."""
_ATTEMPTS: Final = 5
_LONGEST_WAIT_SECONDS: Final = 5.0
_FIRST_WAIT_SECONDS: Final = 0.2
_GIVES_UP_SECONDS: Final = 60.0
_LONG_SECONDS: Final = 600.0
_AGAIN: Final = frozenset({409, 429, 503})
"""Answers that, with a `Retry-After` not far off, ask for the same request again."""
_REFERENCE: Final = re.compile(r"[^\x00-\x20\x7f/\\?#%]{1,300}")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_UNAUTHENTICATED: Final = 401
_FORBIDDEN: Final = 403
_OK: Final = 200
_FIRST_REDIRECT: Final = 300
_FIRST_REFUSAL: Final = 400
_FIRST_FAULT: Final = 500


class RefusedError(PmisError):
    """The API said no. `body` is the problem document as it came, `problem` the same read."""

    code = "refused"
    title = "The server refused this"

    def __init__(self, detail: str, body: bytes, problem: Json) -> None:
        """`detail` is the sentence to show, with each field that is wrong on a line of its own."""
        super().__init__(detail)
        self.body = body
        self.problem = problem


class UnreachableError(UnavailableError):
    """No API answers."""


class BadArgumentError(PmisError):
    """An argument that cannot be sent."""

    code = "bad_argument"
    title = "This cannot be sent"


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def json(self) -> Json:
        """The body, read; raises UnavailableError for what is not a JSON object."""
        return _object(self.body)


@dataclass(frozen=True)
class Listed:
    """What a list gave, and where it goes on. `body` is the API's own JSON, or that of its pages put together."""

    items: list[Json]
    next: str | None
    body: bytes


class Api:
    """One server, and the account that talks to it."""

    def __init__(self, url: str, account: Account | None = None) -> None:
        """Connect when the first request is made. Proxies of the environment are not asked for this very machine."""
        import importlib.metadata  # noqa: PLC0415 - these load slowly, and help needs none of them

        import httpx2  # noqa: PLC0415

        self.url = url
        self.account = account
        headers = {"User-Agent": f"pmis-cli/{importlib.metadata.version('pmis')}", "Accept": "application/json"}
        if account is not None:
            headers["Authorization"] = _authorization(account)
        try:
            self._http = httpx2.Client(
                base_url=url + BASE,
                headers=headers,
                timeout=httpx2.Timeout(30.0, connect=5.0),
                trust_env=not accounts.is_local(url),
                # Certificates are read for https alone: it takes longer than most requests. Redirects are not followed.
                verify=url.startswith("https:"),
            )
        except (httpx2.InvalidURL, ValueError) as error:  # a host that is none, a proxy that is none
            raise BadArgumentError(f"{printable(url)} cannot be reached: {printable(str(error))}.") from None

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    def get(self, *path: str, **params: str | int | None) -> Answer:
        """Read. Parameters that are None are left out."""
        return self.request("GET", path, params=params)

    def send(
        self,
        method: str,
        *path: str,
        body: Mapping[str, Any] | bytes | None = None,
        key: str | None = None,
        if_match: int | None = None,
        **params: str | int | None,
    ) -> Answer:
        """Change something, under an idempotency key: the given one, or one of its own. Bytes are sent as a file."""
        if key is None:
            from pmis.kit.ids import uuid7  # noqa: PLC0415 - see above

            key = str(uuid7())
        elif not _KEY.fullmatch(key):
            raise BadArgumentError("An idempotency key is 1 to 255 printable ASCII characters without spaces.")
        headers = {"Idempotency-Key": key}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        return self.request(method, path, params=params, body={} if body is None else body, headers=headers)

    def request(
        self,
        method: str,
        path: Sequence[str],
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        long: bool = False,
    ) -> Answer:
        """Send until there is an answer, a bounded number of times; what takes `long` is waited for.

        Raises RefusedError or UnreachableError.
        """
        query = {name: _sendable(str(value)) for name, value in (params or {}).items() if value is not None}
        file = isinstance(body, bytes)
        content = body if body is None or isinstance(body, bytes) else _encoded(body)
        kind = {} if content is None else {"Content-Type": "application/octet-stream" if file else "application/json"}
        request = self._http.build_request(
            method, _path(path), params=query, content=content, headers={**(headers or {}), **kind}
        )
        if file or long:
            # The answer to a file comes when all of it is done.
            request.extensions["timeout"]["read"] = _LONG_SECONDS
        answer = self._signed_in(request)
        if answer.status == _FORBIDDEN and self._proved_again(answer):
            answer = self._signed_in(request)
        if answer.status >= _FIRST_REFUSAL:
            raise self._refusal(answer)
        if answer.status >= _FIRST_REDIRECT:
            # Not followed: neither a password nor a token goes where nobody said it should.
            raise UnavailableError(
                f"{self.url} sends its callers on to {printable(answer.headers.get('location', 'nowhere'))}. "
                "Sign in at the right address with `pmis login --url`."
            )
        return answer

    def _proved_again(self, answer: Answer) -> bool:
        """Let whoever sits at the terminal prove again who they are, where that is what was missing."""
        kept = self.account is not None and self.account.profile is not None
        if not kept or not sys.stdin.isatty() or b'"step_up_needed"' not in answer.body:
            return False
        from pmis.cli.reauthenticate import prove  # noqa: PLC0415 - that module needs this one

        prove(self)
        return True

    def _signed_in(self, request: httpx2.Request) -> Answer:
        """The answer, with a renewed access token where the one at hand is no longer good."""
        renewed = self.account is not None and self.account.needs_renewal and self._renew(request)
        answer = self._answer(request)
        if answer.status == _UNAUTHENTICATED and not renewed and self._renew(request):
            answer = self._answer(request)
        return answer

    def _renew(self, request: httpx2.Request) -> bool:
        """Take the account's next tokens, for this request and those after it; one command at a time does this.

        A refresh token is good once. Whoever comes second finds what the first has kept.
        """
        mine = self.account
        if mine is None or mine.profile is None or mine.refresh_token is None:
            return False
        with accounts.alone(mine.profile):
            kept = accounts.read(mine.profile)
            if kept is None or kept.url != self.url or kept.refresh_token is None:
                return False
            if kept.token == mine.token:
                body = _encoded({"refresh_token": kept.refresh_token})
                asking = self._http.build_request(
                    "POST", "/auth/refresh", content=body, headers={"Content-Type": "application/json"}
                )
                del asking.headers["authorization"]
                answer = self._answer(asking)
                if answer.status != _OK:
                    return False
                kept = renewed(kept, answer.json)
                accounts.keep(kept)
        self.account = kept
        self._http.headers["authorization"] = request.headers["authorization"] = _authorization(kept)
        return True

    def _answer(self, request: httpx2.Request) -> Answer:
        import httpx2  # noqa: PLC0415 - see above

        wait = _FIRST_WAIT_SECONDS
        answer: Answer | None = None
        lost: Exception | None = None
        began = time.monotonic()
        for attempt in range(_ATTEMPTS):
            if attempt:
                if time.monotonic() - began + wait > _GIVES_UP_SECONDS:
                    break
                time.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
            try:
                response = self._http.send(request)
            except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.DecodingError) as error:
                raise self._unreachable(error) from None
            except httpx2.TransportError as error:
                if attempt == 0 and isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
                    raise self._unreachable(error) from None
                lost, answer = error, None
                continue
            answer = Answer(response.status_code, response.content, response.headers)
            after = response.headers.get("retry-after", "")
            if answer.status not in _AGAIN or not after.isdigit() or float(after) > _LONGEST_WAIT_SECONDS:
                return answer
            wait = max(float(after), wait)
        if answer is not None:
            return answer
        if "idempotency-key" not in request.headers:
            raise self._unreachable(cast("Exception", lost))
        raise UnreachableError(
            f"The connection to {self.url} broke, and no answer came however often it was asked. Whether the request "
            "took effect is not known. "
            f"Repeat it with `--key {request.headers['idempotency-key']}`: then it takes effect once."
        )

    def download(self, *path: str, into: IO[bytes], **params: str | int | None) -> int:
        """Write what the API answers as it comes; returns the bytes. Raises UnreachableError when it breaks off."""
        import httpx2  # noqa: PLC0415 - see above

        query = {name: _sendable(str(value)) for name, value in params.items() if value is not None}
        request = self._http.build_request("GET", _path(path), params=query)
        request.extensions["timeout"]["read"] = _LONG_SECONDS
        if self.account is not None and self.account.needs_renewal:
            self._renew(request)
        try:
            response = self._http.send(request, stream=True)
            try:
                if response.status_code != _OK:
                    raise self._refusal(Answer(response.status_code, response.read(), response.headers))
                # As it is: a compressed file stays compressed.
                return sum(into.write(chunk) for chunk in response.iter_raw())
            finally:
                response.close()
        except httpx2.ConnectError as error:
            raise self._unreachable(error) from None
        except httpx2.TransportError as error:
            raise UnreachableError(
                f"The connection to {self.url} broke off ({printable(str(error)) or type(error).__name__}): what came "
                "is not complete. Try again."
            ) from None

    def listed(
        self,
        *path: str,
        limit: int = PAGE,
        everything: bool = False,
        cursor: str | None = None,
        **params: str | int | None,
    ) -> Listed:
        """Up to `limit` records, or all, page after page."""
        items: list[Json] = []
        bodies: list[bytes] = []
        while True:
            size = PAGE if everything else min(PAGE, limit - len(items))
            answer = self.get(*path, limit=size, cursor=cursor, **params)
            items += answer.json["items"]
            bodies.append(answer.body)
            cursor = answer.json["next"]
            if cursor is None or (not everything and len(items) >= limit):
                break
        body = bodies[0] if len(bodies) == 1 else _encoded({"items": items, "next": cursor})
        return Listed(items, cursor, body)

    def every(self, *path: str, at_most: int, **params: str | int | None) -> Iterator[Json]:
        """The records of a list one by one, page after page as they are needed, up to so many."""
        cursor: str | None = None
        seen = 0
        while seen < at_most:
            page = self.get(*path, limit=PAGE, cursor=cursor, **params).json
            yield from page["items"]
            seen += len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = printable(str(error)) or type(error).__name__
        if not accounts.is_local(self.url):
            return UnreachableError(f"No PMIS answers at {self.url} ({reason}). Check the address and the network.")
        elsewhere = _running_elsewhere(self.url)
        advice = (
            f"`pmis up` serves {elsewhere} now: sign in there with `pmis login --url {elsewhere}`."
            if elsewhere
            else "Start it with `pmis up`, or name another address with `pmis login --url`."
        )
        return UnreachableError(f"No PMIS answers at {self.url} ({reason}). {advice}")

    def _refusal(self, answer: Answer) -> PmisError:
        try:
            problem = _object(answer.body)
        except UnavailableError:
            problem = {}
        detail = problem.get("detail")
        if not isinstance(detail, str):
            return UnavailableError(
                f"{self.url} answered {answer.status} with something that does not come from PMIS. Check the address."
            )
        if answer.status == _UNAUTHENTICATED and self.account is not None:
            detail = self._signed_out(self.account, detail)
        else:
            detail = "\n".join([detail, *_fields(problem)])
        if answer.status >= _FIRST_FAULT and isinstance(said := problem.get("correlation_id"), str):
            detail += f"\n  correlation id {said}"
        return RefusedError(printable(detail, lines=True), answer.body, problem)

    def _signed_out(self, account: Account, detail: str) -> str:
        if account.profile is None:
            return f"The server does not accept the token in PMIS_TOKEN: {detail}"
        if account.has_expired or "expired" in detail:
            who = account.name or account.email or account.profile
            return f"The sign-in of {who} has expired. Run `{account.login_command}`."
        return f"{detail} Run `{account.login_command}`."


@contextmanager
def connected(profile: str | None, *, as_json: bool = False) -> Generator[Api]:
    """The API, as the account that `--as` chooses. With `as_json` a refusal is also printed as its problem document."""
    account = accounts.current(profile)
    api = Api(account.url, account)
    try:
        yield api
    except RefusedError as error:
        if as_json:
            typer.echo(error.body)
        raise
    finally:
        api.close()


def renewed(account: Account, token: Json) -> Account:
    """The account with the tokens that the API has given."""
    now = datetime.now(UTC)

    def after(name: str) -> str:
        return (now + timedelta(seconds=int(token[name]))).isoformat(timespec="seconds")

    return replace(
        account,
        token=str(token["access_token"]),
        token_expires_at=after("expires_in"),
        refresh_token=str(token["refresh_token"]),
        expires_at=after("refresh_expires_in"),
    )


def _authorization(account: Account) -> str:
    if not _KEY.fullmatch(account.token[:255]) or not account.token.isascii():
        raise BadArgumentError("The access token holds what no token holds. Run `pmis login`.")
    return f"Bearer {account.token}"


def _path(segments: Sequence[str]) -> str:
    for segment in segments:
        if segment in (".", "..") or not _REFERENCE.fullmatch(_sendable(segment)):
            raise BadArgumentError(f"{printable(segment[:80])!r} names no record.")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def _sendable(text: str) -> str:
    """The text; raises BadArgumentError when it was not UTF-8 on the command line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadArgumentError(f"{printable(text[:80])!r} is not valid UTF-8 text.") from None
    return text


def _require_sendable(found: Any) -> None:  # noqa: ANN401 - any JSON value
    if isinstance(found, str):
        _sendable(found)
    elif isinstance(found, dict):
        for name, item in cast("dict[str, Any]", found).items():
            _sendable(name)
            _require_sendable(item)
    elif isinstance(found, list):
        for item in cast("list[Any]", found):
            _require_sendable(item)


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        _require_sendable(body)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise BadArgumentError(
            "A number is too large, or none at all (NaN, Infinity): JSON has no such number."
        ) from None
    except RecursionError:
        raise BadArgumentError("A value is nested too deep.") from None
    return text.encode()


def _object(body: bytes) -> Json:
    try:
        value: object = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnavailableError("The server answered with something that does not come from PMIS. Check the address.")
    return cast("Json", value)


def _fields(problem: Json) -> list[str]:
    """A line for each field that is wrong, unless the one sentence has said it."""
    errors = cast("object", problem.get("errors"))
    if not isinstance(errors, list):
        return []
    lines = [
        f"  {item.get('pointer', '')}: {item.get('message', '')}"
        for item in cast("list[Json]", errors)
        if isinstance(item, dict)  # pyright: ignore[reportUnnecessaryIsInstance] - what came over the wire can be anything
    ]
    return lines if len(lines) > 1 else []


def _running_elsewhere(url: str) -> str | None:
    """Where `pmis up` serves the data folder now, when that is another address."""
    if os.environ.get("PMIS_URL"):
        return None
    from pmis.kit.settings import load_settings  # noqa: PLC0415 - see above

    try:
        settings = load_settings()
    except PmisError:
        return None
    running = settings.pmis_url
    return running if running and running.rstrip("/") != url else None
