"""The whole way: accepted in PostgreSQL, told by the relay, done by a worker, once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.jobs.plant import STOP, wait_for

if TYPE_CHECKING:
    from tests.jobs.plant import Plant


def test_what_is_accepted_is_done_once_with_its_result(plant: Plant):
    jobs = [plant.accept("test.deed", n=n) for n in range(20)]
    plant.start("relay")
    plant.start("worker")
    plant.wait_for_status("done", *jobs)
    late = plant.accept("test.deed", n=99)
    took = plant.wait_for_status("done", late)
    assert took < 5
    assert plant.deeds() == dict.fromkeys([*jobs, late], 1)
    assert plant.all("select result, attempt, error from jobs.job where id = %s", (late,)) == [('{"n":99}', 1, None)]
    assert plant.attempts(late) == ["done"]


def test_a_failure_is_tried_again_until_it_works_and_a_hopeless_one_is_not(plant: Plant):
    plant.start("relay")
    plant.start("worker")
    second, never, hopeless = (
        plant.accept("test.deed", fail_until=2),
        plant.accept("test.deed", fail_until=99),
        plant.accept("test.hopeless"),
    )
    unreadable, unknown = plant.accept("test.deed", n="many"), plant.accept("test.unheard_of")
    plant.wait_for_status("done", second)
    plant.wait_for_status("dead", never, hopeless, unreadable, unknown)
    assert plant.attempts(second) == ["failed", "done"]
    assert plant.attempts(never) == ["failed"] * 4
    assert plant.attempts(hopeless) == plant.attempts(unreadable) == ["failed"]
    errors = {row[0]: json.loads(row[1]) for row in plant.all("select id, error from jobs.job where status = 'dead'")}
    assert errors[hopeless]["message"] == "It will never work."
    assert errors[hopeless]["code"] == "job_given_up"
    assert errors[never] == {
        "type": "RuntimeError",
        "message": "PMIS did not expect this; the worker's log has the details.",
        "where": errors[never]["where"],
    }
    assert "n: Input should be a valid integer" in errors[unreadable]["message"]
    assert errors[unknown]["code"] == "unknown_job_kind"
    plant.all("select * from jobs.retry(%s)", ([never, hopeless],))
    plant.wait_for_status("dead", never, hopeless)
    assert plant.attempts(never) == ["failed"] * 8, "a dead letter that is retried has all its attempts again"


def test_a_job_that_kills_its_process_stops_after_its_attempts(plant: Plant):
    plant.start("relay")
    plant.start("worker")
    poison, other = plant.accept("test.poison"), plant.accept("test.deed")
    plant.wait_for_status("done", other)
    plant.wait_for_status("dead", poison, seconds=90)
    assert plant.attempts(poison) == ["lost"] * 4
    assert plant.deeds()[poison] == 4
    plant.wait_for_status("done", plant.accept("test.deed"))


def test_a_job_that_outlasts_its_lease_keeps_it_even_when_it_is_busy(plant: Plant):
    plant.start("relay")
    plant.start("worker")
    busy = plant.accept("test.busy", seconds=7)
    plant.wait_for_status("done", busy)
    assert plant.attempts(busy) == ["done"]
    assert plant.deeds()[busy] == 1


def test_a_job_that_takes_too_long_is_ended(plant: Plant):
    plant.start("relay")
    plant.start("worker", JOB_LIMIT_SECONDS="1", JOB_RETRY_SECONDS="0.1")
    late = plant.accept("test.deed", seconds=30)
    plant.wait_for_status("dead", late)
    assert json.loads(plant.all("select error from jobs.job where id = %s", (late,))[0][0])["code"] == (
        "job_took_too_long"
    )


def test_a_worker_that_is_told_to_stop_ends_its_jobs_or_gives_them_back(plant: Plant):
    plant.start("relay")
    plant.start("worker")
    short, long = plant.accept("test.deed", seconds=2), plant.accept("test.deed", seconds=60)
    plant.wait_for_status("running", short, long)
    began = time.monotonic()
    assert plant.end("worker") == 0
    assert time.monotonic() - began < 14
    assert plant.status(short, long) == ["done", "queued"]
    assert plant.attempts(long) == ["returned"]
    assert plant.all("select attempt, forgiven from jobs.job where id = %s", (long,)) == [(1, 1)]
    plant.start("worker")
    wait_for(lambda: plant.status(long) == ["running"], "another worker to take it")
    assert plant.deeds() == {short: 1}


def test_progress_is_told_while_it_runs(plant: Plant):
    plant.start("relay")
    plant.start("worker")
    job = plant.accept("test.tell", n=40, seconds=0.1)
    wait_for(
        lambda: (plant.all("select progress from jobs.job where id = %s", (job,))[0][0] or "{}").find('"done": 5') > 0,
        "the fifth step",
    )
    plant.wait_for_status("done", job)


def test_a_worker_whose_acknowledgement_is_lost_takes_the_next_job(plant: Plant):
    """The broker goes away while the only process of the worker is busy, and is back after the job has ended."""
    plant.start("relay")
    plant.start("worker", WORKER_CONCURRENCY="1")
    first = plant.accept("test.deed", seconds=2)
    plant.wait_for_status("running", first)
    plant.stop_broker(STOP)
    plant.wait_for_status("done", first)
    time.sleep(1)  # the acknowledgement is tried, and fails
    plant.start_broker()
    second = plant.accept("test.deed")
    plant.wait_for_status("done", second, seconds=60)
    assert plant.deeds() == {first: 1, second: 1}


def test_a_process_that_is_killed_before_the_broker_hears_that_its_job_is_done_does_it_once(plant: Plant):
    """The message comes again, as the broker has it still; the row says that there is nothing to do."""
    told = plant.folder / "told"
    plant.start("relay")
    plant.start("worker", TEST_KILLED=str(told), JOB_REPUBLISH_SECONDS="600")
    jobs = [plant.accept("test.deed") for _ in range(3)]
    plant.wait_for_status("done", *jobs, seconds=90)

    def outcomes() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in told.read_text().splitlines():
            job, _, outcome = line.partition(" ")
            found.setdefault(job, []).append(outcome)
        return found

    wait_for(lambda: all(len(one) > 1 for one in outcomes().values()), lambda: str(outcomes()), seconds=60)
    assert {job: said[:2] for job, said in outcomes().items()} == {str(job): ["done", "nothing to do"] for job in jobs}
    assert plant.deeds() == dict.fromkeys(jobs, 1)
    assert [plant.attempts(job) for job in jobs] == [["done"]] * 3
