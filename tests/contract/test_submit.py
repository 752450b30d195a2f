"""submit: ids, batches, and what a repeated request is answered."""

from __future__ import annotations

import pytest

from shunter.domain.event import Submitted
from shunter.domain.job import Launch, Request, Submission
from shunter.domain.phase import Queued
from shunter.errors import Conflict
from shunter.store import commands
from tests.contract.cluster import Cluster

KEY = ("digest-of-key", "digest-of-request")


def test_ids_are_dense_from_1(cluster: Cluster) -> None:
    assert [cluster.submit() for _ in range(3)] == [[1], [2], [3]]


def test_a_batch_gets_dense_ids_in_order(cluster: Cluster) -> None:
    cluster.submit()
    assert cluster.submit(4) == [2, 3, 4, 5]
    assert cluster.submit() == [6]


def test_a_batch_of_the_largest_size_is_accepted(cluster: Cluster) -> None:
    assert cluster.submit(commands.MAX_BATCH) == list(range(1, commands.MAX_BATCH + 1))


def test_a_new_job_is_queued_at_revision_1(cluster: Cluster) -> None:
    job_id = cluster.queued()
    record = cluster.record(job_id)
    assert (record.phase, record.rev) == (Queued(1.0), 1)
    assert cluster.active() == [job_id]


def test_a_submission_is_in_the_stream_with_its_job(cluster: Cluster) -> None:
    first, second = cluster.submit(2)
    entries = cluster.entries("submitted")
    assert [(entry.job_id, entry.rev, entry.event()) for entry in entries] == [
        (first, 1, Submitted(1.0, "ada")),
        (second, 1, Submitted(1.0, "ada")),
    ]
    assert [entry.job() for entry in entries] == [cluster.job(first), cluster.job(second)]


def test_job_and_launch_are_kept_as_they_were_given(cluster: Cluster) -> None:
    job_id = cluster.queued(nodes=2)
    job = cluster.job(job_id)
    assert (job.id, job.name, job.request) == (job_id, "train", Request(1, 2))
    launch = Launch(["python", "-c", "print('a\\nb')\nprint('é')"], "/a b", {"X": "1\n2"}, script="#!/bin/sh\ntrue\n")
    (other,) = cluster.run(commands.submit(cluster.keys, [Submission(job, launch)], at_s=1.0, by="ada"))
    assert cluster.run(commands.launch(cluster.keys, other)) == launch


def test_a_repeated_key_is_answered_the_first_ids_and_creates_nothing(cluster: Cluster) -> None:
    first = cluster.submit(3, key=KEY)
    before = cluster.snapshot()
    assert cluster.submit(3, key=KEY) == first == [1, 2, 3]
    assert cluster.snapshot() == before


def test_a_repeated_key_is_answered_the_first_ids_after_other_jobs_came(cluster: Cluster) -> None:
    first = cluster.submit(2, key=KEY)
    cluster.submit(5)
    assert cluster.submit(2, key=KEY) == first


def test_a_key_used_for_another_request_is_a_conflict_and_creates_nothing(cluster: Cluster) -> None:
    cluster.submit(key=KEY)
    before = cluster.snapshot()
    with pytest.raises(Conflict, match="Idempotency-Key: already used for another request; use a new key"):
        cluster.submit(key=(KEY[0], "another"))
    assert cluster.snapshot() == before


def test_different_keys_create_different_jobs(cluster: Cluster) -> None:
    assert cluster.submit(key=KEY) != cluster.submit(key=("another-key", KEY[1]))


def test_a_key_is_remembered_for_a_day(cluster: Cluster) -> None:
    cluster.submit(key=KEY)
    assert 86_000 < cluster.redis.ttl(cluster.keys.idem(KEY[0])) <= 86_400


def test_clusters_in_one_redis_count_their_own_jobs(cluster: Cluster) -> None:
    other = Cluster(cluster.server, f"{cluster.keys.cluster}-b")
    cluster.submit(3)
    assert other.submit() == [1]
    assert cluster.active() == [1, 2, 3]
    other.check()
    other.redis.delete(*other.snapshot())
    other.store.close()
    other.plain.close()


def test_last_job_is_0_before_the_first(cluster: Cluster) -> None:
    assert cluster.run(commands.last_job(cluster.keys)) == 0
    cluster.submit(2)
    assert cluster.run(commands.last_job(cluster.keys)) == 2


def test_active_jobs_are_read_in_pages(cluster: Cluster) -> None:
    cluster.submit(5)
    assert cluster.run(commands.active(cluster.keys, after=2, count=2)) == [3, 4]
    assert cluster.run(commands.active(cluster.keys, after=4)) == [5]
    assert cluster.run(commands.active_count(cluster.keys)) == 5
