"""How much one may ask, counted in Valkey for all processes of the API together.

Each request counts in one budget: that of the API token it shows, else of the person who asks, else of the address it
comes from. A process takes a fiftieth of it at a time and asks again when that is used: a question to Valkey costs half
as much as many a request, so only one in many pays for it. Each process may thus let pass a fiftieth more, or leave as
much unused; small budgets are taken one by one, and exact. This protects the service, not accounts: attempts to sign in
are counted in PostgreSQL (see `pmis.identity.attempts`), exactly, whatever becomes of Valkey.

Valkey that is away stops nobody: requests go on uncounted, the log and the metrics say so, and it is asked again only
after a rest, so that nobody waits for it but those who find out.

What is answered without a look at anything is in no budget: paths and methods that there are not, the description of
the API, what a browser is kept from sending (`CrossSiteError`). Nor is what load balancers and monitors ask (`/health`,
`/readiness`, `/metrics`), which is to be answered however much is asked: keep these from the outside at the proxy.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from prometheus_client import Counter, Gauge

from pmis.kit.errors import PmisError

if TYPE_CHECKING:
    from pmis.kit.settings import Settings

log = logging.getLogger("pmis.limits")
Kind = Literal["person", "token", "address"]
ASK_SECONDS: Final = 0.1
"""How long a request waits for Valkey."""
REST_SECONDS: Final = 5.0
"""How long Valkey is left alone after it did not answer."""
_SHARES: Final = 50
"""In how many portions a budget is taken."""
_REMEMBERED: Final = 10_000
_STRIKES: Final = 3
REFUSED: Final = Counter("pmis_rate_limited", "Requests that were one too many, by whose budget it was.", ("kind",))
UNCOUNTED: Final = Counter("pmis_rate_limits_uncounted", "Requests that went on uncounted, as Valkey did not answer.")
UP: Final = Gauge(
    "pmis_rate_limits_up", "Whether requests are counted: 0 while Valkey does not answer.", multiprocess_mode="livemin"
)


class TooManyRequestsError(PmisError):
    """More requests than the budget of the token, the person or the address holds."""

    code = "too_many_requests"
    status = 429
    title = "Too many requests"

    def __init__(self, kind: Kind, seconds: float) -> None:
        """Say whose budget it was, and how long to wait."""
        self.retry_after = max(1, math.ceil(seconds))
        whose = {"person": "your account", "token": "this API token", "address": "your address"}[kind]
        super().__init__(f"Too many requests with {whose}. Go on in {self.retry_after} seconds.", limited=kind)


class Limits:
    """The budgets of one process, kept in common with all others."""

    def __init__(self, settings: Settings) -> None:
        """As the settings say; without REDIS_URL nothing is counted. Connects when it is first asked."""
        self._resting_until = 0.0
        self._strikes = 0
        self._struck_at = 0.0
        self._up = True
        self._asking: dict[str, asyncio.Future[None]] = {}
        """The questions for a portion that are not answered yet."""
        self._over: dict[str, float] = {}
        self._taken: dict[str, tuple[int, float]] = {}
        """What was taken and not used yet of each budget, and until when it is good."""
        self._pool: Any = None
        self._items: dict[Kind, Any] = {}
        amounts: dict[Kind, int] = {
            "person": settings.rate_limit_person,
            "token": settings.rate_limit_token,
            "address": settings.rate_limit_address,
        }
        if settings.redis_url is None or not any(amounts.values()):
            return
        # Loaded here alone: they take their time, and an API without them starts sooner.
        from limits import RateLimitItemPerSecond  # noqa: PLC0415
        from limits.aio.storage import RedisStorage  # noqa: PLC0415
        from limits.aio.strategies import FixedWindowRateLimiter  # noqa: PLC0415
        from redis.asyncio import ConnectionPool  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._pool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            settings.redis_url.get_secret_value(),
            socket_timeout=ASK_SECONDS,
            socket_connect_timeout=ASK_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="pmis:limits",
            connection_pool=self._pool,
        )
        self._strategy = FixedWindowRateLimiter(storage)
        self._failures = (RedisError, OSError, TimeoutError)
        window = settings.rate_limit_window_seconds
        self._window = float(window)
        self._items = {
            kind: RateLimitItemPerSecond(amount, window, namespace="") for kind, amount in amounts.items() if amount
        }
        UP.set(1)

    async def close(self) -> None:
        """Let the connections go."""
        if self._pool is not None:
            await self._pool.aclose()

    def counts(self, kind: Kind) -> bool:
        """Whether there is a budget of this kind."""
        return kind in self._items

    async def require(self, kind: Kind, who: str) -> None:
        """Take one request from the budget; raises TooManyRequestsError when it is spent."""
        item = self._items.get(kind)
        if item is None:
            return
        key = f"{kind}:{who}"
        while not self._may_go_on(kind, key):
            asking = self._asking.get(key)
            if asking is None:
                await self._ask(item, kind, key)
                return
            # One question for all who come meanwhile: many at once would take a portion each, and use none up.
            await asyncio.shield(asking)

    def _may_go_on(self, kind: Kind, key: str) -> bool:
        """Whether it is known without a question that the request may go on; raises when it is known that it may not.

        Whose budget is spent is refused so, and a flood costs Valkey nothing.
        """
        now = time.monotonic()
        over = self._over.get(key, 0.0)
        if over > now:
            REFUSED.labels(kind).inc()
            raise TooManyRequestsError(kind, over - now)
        left, until = self._taken.get(key, (0, 0.0))
        if left and now < until:
            self._taken[key] = (left - 1, until)
            return True
        if now < self._resting_until:
            UNCOUNTED.inc()
            return True
        return False

    async def _ask(self, item: Any, kind: Kind, key: str) -> None:  # noqa: ANN401 - the library's
        """Take a portion of the budget, one of which is this request's own."""
        portion = max(1, item.amount // _SHARES)
        asking = None
        if portion > 1:
            asking = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            began = time.monotonic()
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    good = await self._strategy.hit(item, key, cost=portion)
            except self._failures as error:
                self._fail(error, began)
                return
            self._strikes = 0
            if not self._up:
                self._up = True
                UP.set(1)
                log.warning("Valkey answers again: requests are counted")
            if not good:
                seconds = await self._seconds_left(item, key)
                _keep(self._over, key, time.monotonic() + seconds)
                REFUSED.labels(kind).inc()
                raise TooManyRequestsError(kind, seconds)
            if portion > 1:
                _keep(self._taken, key, (portion - 1, began + self._window))
        finally:
            if asking is not None:
                del self._asking[key]
                asking.set_result(None)

    async def _seconds_left(self, item: Any, key: str) -> float:  # noqa: ANN401 - the library's
        try:
            async with asyncio.timeout(ASK_SECONDS):
                stats = await self._strategy.get_window_stats(item, key)
        except self._failures:
            return self._window
        return min(max(stats.reset_time - time.time(), 0.0), self._window)

    def _fail(self, error: Exception, began: float) -> None:
        """Go on uncounted; after as many failures one after the other as `_STRIKES` Valkey is left alone for a while.

        One late answer is often this process's own doing, which was busy with something else; and of several questions
        that wait at the same time one counts.
        """
        UNCOUNTED.inc()
        if began >= self._struck_at:
            self._strikes += 1
            self._struck_at = time.monotonic()
        if self._strikes < _STRIKES:
            return
        self._strikes = 0
        self._resting_until = time.monotonic() + REST_SECONDS
        if self._up:
            self._up = False
            UP.set(0)
            log.error(
                "Valkey does not answer (%s): requests are not counted until it does; sign-in is limited as ever",
                type(error).__name__,
            )


def _keep(known: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 - of either kind
    """Remember it, and of others the latest that fit."""
    known.pop(key, None)
    while len(known) >= _REMEMBERED:
        del known[next(iter(known))]
    known[key] = value
