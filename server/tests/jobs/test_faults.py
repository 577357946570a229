"""T6 at the size of every run: a hundred jobs while everything that carries them is killed, each done once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis

from tests.jobs.plant import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.jobs.plant import Plant

pytestmark = pytest.mark.slow
JOBS = 100
DRAINED_SECONDS = 30


class Faults:
    """What goes wrong, one after another; each makes sure first that what it hits is ours."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.happened: list[str] = []

    def broker(self) -> redis.Redis:
        client = redis.Redis(unix_socket_path=str(self.plant.valkey.socket), password=self.plant.valkey.password)
        info: Any = client.info("server")
        assert self.plant._broker is not None
        assert info["process_id"] == self.plant._broker.pid, "another server than ours"
        return client

    def flush(self) -> None:
        with self.broker() as client:
            client.flushall()

    def kill_broker(self) -> None:
        self.broker().close()
        self.plant.stop_broker()
        self.plant.start_broker()

    def kill_worker(self) -> None:
        name = next(one for one in self.plant.processes if one.startswith("worker"))
        self.plant.kill(name)
        self.plant.start("worker", name)

    def kill_child(self) -> None:
        for name in [one for one in self.plant.processes if one.startswith("worker")]:
            for child in self.plant.children(name)[:1]:
                os.kill(child, signal.SIGKILL)

    def kill_relay(self) -> None:
        self.plant.kill("relay")
        self.plant.start("relay")

    def end_sessions(self) -> None:
        """What a restart of PostgreSQL is to its clients: every connection to this database is gone."""
        with psycopg.connect(self.plant.admin_dsn, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )

    def cause(self, fault: Callable[[], None]) -> None:
        fault()
        self.happened.append(fault.__name__)


def test_a_hundred_jobs_under_nine_faults_are_each_done_once(plant: Plant, record_property: Any):
    dice = random.Random(6)
    plant.start("relay")
    plant.start("relay", "relay-2")
    plant.start("worker", "worker-1")
    plant.start("worker", "worker-2")
    faults = Faults(plant)
    plan = [
        faults.kill_child,
        faults.flush,
        faults.end_sessions,
        faults.kill_worker,
        faults.kill_broker,
        faults.kill_relay,
        faults.flush,
        faults.kill_child,
        faults.end_sessions,
    ]
    jobs = []
    for number in range(JOBS):
        jobs.append(plant.accept("test.deed", n=number, seconds=dice.choice((0, 0.05, 0.8))))
        if plan and number % (JOBS // 10) == 9:
            # In the midst of work, or the fault would hit nothing.
            wait_for(lambda: bool(plant.all("select from jobs.job where status = 'running'")), plant._logs)
            faults.cause(plan.pop(0))
    began = time.monotonic()
    while {"queued", "running", "waiting"} & set(plant.status(*jobs)):
        # Twice the bar: this machine may be busy with other tests, and the figure is told below.
        assert time.monotonic() - began < DRAINED_SECONDS * 2, plant._logs()
        time.sleep(0.2)
    drained = time.monotonic() - began
    dead = [job for job, status in zip(jobs, plant.status(*jobs), strict=True) if status == "dead"]
    assert len(faults.happened) >= 6
    assert not plan
    assert plant.deeds() == {job: 1 for job in jobs if job not in dead}, "done once in effect, or visibly dead"
    assert not dead, "this many faults are no job's end"
    lost = plant.all("select count(*) from jobs.attempt where outcome = 'lost'")[0][0]
    record_property(
        "figure",
        f"T6: {JOBS} jobs, 2 relays, 2 workers, {len(faults.happened)} faults: {JOBS} done once, "
        f"{lost} attempts lost, drained {drained:.1f} s after the last job",
    )


def test_control_an_effect_outside_of_the_end_is_doubled(plant: Plant):
    """The same kill, of a job that notes what it did in a transaction of its own: the proof above can see it twice."""
    plant.start("relay")
    plant.start("worker")
    job = plant.accept("test.loose", seconds=2)
    plant.wait_for_status("running", job)
    while not plant.deeds():
        time.sleep(0.05)
    for child in plant.children("worker"):  # one of them has the job
        os.kill(child, signal.SIGKILL)
    plant.wait_for_status("done", job)
    assert plant.deeds() == {job: 2}


def test_control_without_the_fence_an_attempt_that_is_over_takes_effect(plant: Plant):
    """Two attempts at one job, the first one stalled: with `jobs.finish` as it is one of them takes effect."""

    def stalled() -> int:
        job = plant.accept("test.deed")
        ends = []
        with plant.connection(plant.urls["DATABASE_WORKER_URL"]) as worker:
            for _ in range(2):
                row = worker.execute("select attempt from jobs.claim(%s, 0.01, 'test')", (job,)).fetchone()
                assert row is not None
                ends.append(row[0])
                time.sleep(0.05)
                with plant.connection(plant.urls["DATABASE_RELAY_URL"]) as relay:
                    if len(ends) == 1:
                        assert relay.execute("select jobs.sweep(4, 10)").fetchone() == (1,)
            for attempt in ends:
                # What is over is refused, and its effect taken back.
                with contextlib.suppress(psycopg.DatabaseError), worker.transaction():
                    worker.execute("insert into public.deed (job_id, attempt) values (%s, %s)", (job, attempt))
                    worker.execute("select jobs.finish(%s, %s, null)", (job, attempt))
        return plant.deeds()[job]

    assert stalled() == 1
    with plant.connection() as admin:
        admin.execute(
            "create or replace function jobs.finish(p_id uuid, p_attempt integer, p_result text) returns void "
            "language sql security definer as $$ update jobs.job set status = 'done', lease_until = null, "
            "finished_at = coalesce(finished_at, clock_timestamp()) where id = p_id $$"
        )
    assert stalled() == 2


def test_control_told_before_the_commit_a_message_finds_no_job(plant: Plant):
    """What the relay would do wrong by telling the broker first: the worker looks, and there is nothing to do."""
    with (
        plant.connection(plant.urls["DATABASE_WORKER_URL"]) as worker,
        psycopg.connect(plant.urls["DATABASE_URL"]) as application,
    ):
        row = application.execute(
            "select jobs.accept(gen_random_uuid(), 'test.deed', 'early', null, '{}', null, 'test', null, null, null), "
            "jobs.id_of('early')"
        ).fetchone()
        assert row is not None
        assert worker.execute("select id from jobs.claim(%s, 5, 'test')", (row[1],)).fetchone() is None
        application.commit()
        assert worker.execute("select id from jobs.claim(%s, 5, 'test')", (row[1],)).fetchone() == (row[1],)
