"""What is left of scenes: no shard and no tile is lost or counted twice, whatever is taken and put back."""

import dataclasses

from factories import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_runs import job, record_of

from batchseg.driver.scene_queue import Retry, SceneQueue, outside_record


def queue_of(*jobs):
    queue = SceneQueue(make_recipe())
    queue.add(jobs)
    return queue


def taken(queue, work, slot=7):
    work.open.first(slot)
    return queue.take(work, slot)


def retry(work, shard):
    return Retry(work=work, shards=(shard,), isolation="read", tried=frozenset(), deaths=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["begin", "take", "put back", "end"]), max_size=40))
def test_the_tiles_left_are_those_that_nobody_was_given(steps):
    jobs = [job(f"{number}.tif", 100, 90, (1, 1)) for number in range(3)]
    queue, begun, given = queue_of(*jobs), [], []
    for step in steps:
        if step == "begin" and queue.waits:
            begun.append(queue.begin())
        elif step == "take" and (work := queue.next_open("avx2")) is not None:
            given.append((work, taken(queue, work)))
        elif step == "put back" and given:
            work, shard = given.pop()
            if not work.over:
                queue.put_back(work, [shard])
        elif step == "end" and begun:
            queue.end(begun.pop())
    open_tiles = sum(shard.count for work in begun for shard in work.open.rest)
    waiting = sum(some_job.tiles_at_most for some_job in jobs[len(jobs) - len(queue._waiting) :])
    assert queue.tiles_left == open_tiles + waiting
    assert queue.begun == len(begun)


def test_scenes_come_in_their_order_and_each_to_one_class_of_cpu():
    queue = queue_of(job("a.tif"), job("b.tif"))
    first, second = queue.begin(), queue.begin()
    queue.assign(first, "avx2")
    assert queue.next_open("avx2") is first
    assert queue.next_open("amx") is second
    first.held = True
    assert queue.next_open("avx2") is second
    queue.release(first)
    assert queue.next_open("avx2") is first


def test_a_scene_begins_again_without_what_another_class_predicted():
    some_job = job(tiles_hw=(1, 1))
    committed = dataclasses.replace(some_job, committed=(record_of(some_job, 0),))
    queue = queue_of(committed)
    work = queue.begin()
    queue.retries.add(retry(work, taken(queue, work)))
    assert queue.stranded({"avx2"}) == []
    assert queue.stranded({"amx"}) == [work]
    queue.begin_again(work)
    assert (work.cpu_class, work.records, list(work.open.rest)) == (None, [], list(some_job.grid))
    assert queue.retries.next("avx2") is None
    assert queue.tiles_left == some_job.grid.tiles.count


def test_retries_of_a_scene_that_is_over_are_passed_by():
    queue = queue_of(job("a.tif"), job("b.tif"))
    first, second = queue.begin(), queue.begin()
    for work in (first, second):
        queue.assign(work, "avx2")
        queue.retries.add(retry(work, taken(queue, work)))
    queue.end(first)
    assert queue.retries.next("amx") is None
    assert queue.retries.next("avx2").work is second
    assert queue.retries.next("avx2") is None


def test_a_shard_that_nobody_read_is_empty():
    some_job = job()
    record = outside_record(some_job, some_job.grid.shard(0), make_recipe(), "avx2")
    assert (record.status, record.empty, record.predicted) == ("shard", True, 0)
    assert record.window == some_job.grid.shard(0).core
