"""What a worker that runs goes by (C6), as Celery's own parts say it, each with its reason: a change is a decision."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pmis.jobs.broker import PROMPT, QUEUES, make_app, queue_name
from pmis.kit.settings import load_settings
from tests.builders import SECRET
from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from tests.jobs.plant import Plant

LIMIT: Final = 330
"""JOB_LIMIT_SECONDS as it is by default, and the grace of a handler that does not listen to it."""
EXPECTED: Final[dict[str, tuple[Any, str]]] = {
    "task_acks_late": (True, "a message is acknowledged when its job has ended, so that a killed worker's comes back"),
    "task_reject_on_worker_lost": (True, "and at once, not when the broker's patience is over"),
    "task_acks_on_failure_or_timeout": (True, "what failed is due again in PostgreSQL, not in the broker"),
    "worker_prefetch_multiplier": (1, "what one process holds back another cannot do"),
    "consumer.prefetch_count": (1, "the same, as this worker of one process has it"),
    "task_time_limit": (LIMIT, "a process that does not listen to its handler's limit is killed"),
    "pool.time_limit": (LIMIT, "the same, as the pool has it"),
    "transport.visibility_timeout": (600, "longer than any job runs, or two workers have it"),
    "channel.visibility_timeout": (600, "the same, as the connection has it"),
    "transport.unacked_restore_interval": (5, "messages of a killed worker are looked for every 5 s, not every 100"),
    "transport.unacked_restore_throttle": (1, "and by whoever comes first"),
    "channel.unacked_restore_throttle": (1, "the same, as the connection has it"),
    "transport.socket_timeout": (15, "a broker that hangs is an error, not a worker that hangs"),
    "transport.socket_connect_timeout": (4, "nor one that waits for a connection"),
    "transport.socket_keepalive": (True, "a peer that vanished is found out while nobody writes to it"),
    "transport.health_check_interval": (10, "and a connection that died is found out before its next use"),
    "connection.socket_timeout": (15, "the same, as the connection has it"),
    "connection.health_check_interval": (10, "the same, as the connection has it"),
    "transport.queue_order_strategy": ("round_robin", "no queue starves behind another"),
    "transport.max_retries": (1, "the relay tries again by itself"),
    "task_ignore_result": (True, "results stand in the job's row"),
    "result_backend": (None, "and nowhere else"),
    "task_serializer": ("json", "nothing but an id travels"),
    "accept_content": (["json"], "and nothing else is read, so that no message is code"),
    "task_create_missing_queues": (False, "a queue that nobody serves is an error, not a place to lose jobs in"),
    "worker_enable_remote_control": (False, "who can write to the broker controls no worker"),
    "worker_send_task_events": (False, "and nobody listens to gossip"),
    "broker_connection_retry_on_startup": (True, "a broker that is away is waited for"),
    "broker_connection_max_retries": (None, "for ever"),
    "worker_cancel_long_running_tasks_on_connection_loss": (False, "a job's lease is PostgreSQL's"),
    "worker_max_tasks_per_child": (2000, "a process that leaks is replaced"),
    "worker_max_memory_per_child": (400_000, "also one that leaks much"),
    "worker_soft_shutdown_timeout": (10, "jobs that run have a while to end"),
    "worker_hijack_root_logger": (False, "logs are the program's own"),
    "enable_utc": (True, "there is one clock"),
    "pool": ("celery.concurrency.prefork", "threads stall without a word"),
    "beat_schedule": (
        {},
        "the schedule is `pmis beat`, whose slots are rows; Celery's would fire twice with two beats",
    ),
    "queues": (sorted(queue_name(one) for one in PROMPT), "those that were asked for"),
}


def differences(found: dict[str, Any]) -> list[str]:
    """What is not as it was decided."""
    return [
        f"{name} is {found.get(name, 'not there')!r}, not {wanted!r}: {reason}"
        for name, (wanted, reason) in EXPECTED.items()
        if name not in found or found[name] != wanted
    ]


def test_a_worker_that_runs_goes_by_what_was_decided(plant: Plant):
    told = plant.folder / "configuration.json"
    queues = ",".join(PROMPT)
    plant.start("worker", WORKER_CONCURRENCY="1", TEST_CONFIGURATION=str(told), TEST_QUEUES=queues)
    wait_for(told.exists, plant._logs, seconds=90)
    wait_for(lambda: told.read_text().endswith("}"), plant._logs)
    found = json.loads(told.read_text())
    assert differences(found) == []
    for name, (wanted, _) in EXPECTED.items():
        # The control: whichever of them changes is found, and it alone.
        (said,) = differences({**found, name: ["another", wanted]})
        assert said.startswith(f"{name} is ")
        (said,) = differences({key: value for key, value in found.items() if key != name})
        assert said.startswith(f"{name} is 'not there'")


def test_the_patience_of_the_broker_follows_the_longest_job_and_every_message_has_an_end():
    for limit in (1, 300, 3600):
        app = make_app(load_settings(embedded=False, job_limit_seconds=limit, secret_key=SECRET, redis_url="redis://x"))
        assert app.conf.broker_transport_options["visibility_timeout"] > app.conf.task_time_limit > limit
        assert {queue.name for queue in app.conf.task_queues} == {queue_name(queue) for queue in QUEUES}
