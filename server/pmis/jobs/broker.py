"""Celery, as far as it is used: it wakes a process of the pool with the id of a job, and nothing else.

What a queue has to promise (that work is kept, tried again, tried at a time, counted, seen) stands in PostgreSQL. Each
setting below says why it is there; see `docs/adr/0011-jobs-in-postgresql.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import UUID  # noqa: TC003 - a named tuple's field

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pmis.kit.settings import Settings

TASK: Final = "pmis.job"
DEFAULT: Final = "default"
QUEUES: Final = ("prompt", DEFAULT, "post", "outside", "long")
"""The queues of the broker, by what waits in each: mails to file and people to tell; what no other queue is for; mails
that go out; calls to webhooks; walks through everything. `jobs.queue_of` says which kind of job waits where."""
PROMPT: Final = ("prompt", DEFAULT)
"""The queues of a worker that is kept free of what takes long or waits for somebody outside."""
BROKER_ERRORS: Final = (KombuError, RedisError, OSError)
"""What a broker that is down, full or not ours makes of a call."""
GRACE_SECONDS: Final = 10
"""How long a worker that is told to stop lets its jobs run before it gives them back."""
_KILL_AFTER_SECONDS: Final = 30
_EXPIRES_SECONDS: Final = 300
MOST_MESSAGES: Final = 256
"""How many messages a queue of the broker holds: those of a queue nobody listens to would otherwise fill Valkey."""


def kombu_url(url: str) -> str:
    """The address as Celery wants it: a Unix socket has a scheme of its own there."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


class Due(NamedTuple):
    """A job that a worker is to be told of."""

    id: UUID
    kind: str
    queue: str
    correlation_id: str


def queue_name(queue: str) -> str:
    """What the broker calls a queue; one of a later version is the default here."""
    return "pmis" if queue == DEFAULT or queue not in QUEUES else f"pmis.{queue}"


def make_app(settings: Settings) -> Any:  # noqa: ANN401 - Celery has no types of its own
    """The Celery application; connects when it is used."""
    app: Any = Celery("pmis", broker=kombu_url(settings.broker_url), set_as_current=False, fixups=[])
    limit = settings.job_limit_seconds + _KILL_AFTER_SECONDS
    app.conf.update(
        # Nobody reads results from the broker: they stand in the job's row.
        task_ignore_result=True,
        result_backend=None,
        # A message is acknowledged when its job has ended, so that a killed worker's comes back at once. Were it lost,
        # the relay would send it again; the claim makes a message that comes twice harmless.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        # One message to each process: what one of them holds back, another cannot do.
        worker_prefetch_multiplier=1,
        # The handler's own limit ends an attempt in good order; this one kills a process that does not listen to it.
        task_time_limit=limit,
        # Nothing but a job's id travels, as text.
        task_serializer="json",
        accept_content=["json"],
        # Times that jobs are due at stand in PostgreSQL: a message with a time would wait inside one worker.
        task_default_queue=queue_name(DEFAULT),
        task_queues=[Queue(queue_name(queue)) for queue in QUEUES],
        task_create_missing_queues=False,
        # A message may be read by anybody on this broker, so there is no control channel, and no gossip about tasks.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        # A broker that is away is waited for, for ever: the supervisor sees a worker that ends, not one that waits.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4,
        # A job goes on when the broker goes away: its lease is PostgreSQL's.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options={
            # Every queue has its turn, however much waits in another one; nothing starves.
            "queue_order_strategy": "round_robin",
            # Longer than any job runs, or the broker gives it to a second worker while the first one has it.
            "visibility_timeout": limit + 270,
            # Messages of a killed worker are looked for every 5 s; the defaults take 100 s.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # A broker that hangs is an error after a while, not a worker that hangs with it.
            "socket_timeout": 15,
            "socket_connect_timeout": 4,
            # A peer that vanished without a word is found out by the system, also while nobody writes to it.
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_retries": 1,
            "interval_start": 0,
            "interval_max": 0.2,
        },
        # A process that leaks is replaced in time.
        worker_max_tasks_per_child=2000,
        worker_max_memory_per_child=400_000,
        # On a busy machine a process of the pool takes its time to begin.
        worker_proc_alive_timeout=60,
        # After this the jobs that still run are given back, which a second signal would do at once.
        worker_soft_shutdown_timeout=GRACE_SECONDS,
        worker_enable_soft_shutdown_on_idle=False,
        # Logs are the program's own, in its own form.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        timezone="UTC",
        enable_utc=True,
    )
    return app


def publisher(app: Any) -> Callable[[Sequence[Due]], None]:  # noqa: ANN401 - see make_app
    """What tells the workers of jobs; raises one of BROKER_ERRORS when the broker does not take it."""

    def publish(jobs: Sequence[Due]) -> None:
        with app.producer_or_acquire() as producer:
            full = {
                name
                for name in {queue_name(job.queue) for job in jobs}
                if producer.channel.queue_declare(queue=name).message_count >= MOST_MESSAGES
            }
            for job in jobs:
                if queue_name(job.queue) in full:
                    continue
                app.send_task(
                    TASK,
                    (str(job.id),),
                    task_id=str(job.id),
                    queue=queue_name(job.queue),
                    producer=producer,
                    # The relay tries again by itself, and a message that is this old was replaced by others.
                    retry=False,
                    expires=_EXPIRES_SECONDS,
                    ignore_result=True,
                )

    return publish
