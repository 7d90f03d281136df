"""Photographs cut into groups: each given out once, in order, and none larger than it may be."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listings import listing

from batchseg.driver.photo_queue import (
    FIRST_IMAGES,
    GROUP_BYTES,
    MOST_IMAGES,
    GroupSizes,
    PhotoQueue,
    PhotoWork,
)
from batchseg.driver.tasks import GroupAnswer, from_stream
from batchseg.output.record import PhotoRecord, to_table


def photos(*nbytes):
    images = listing(*(f"{number:03d}.jpg" for number in range(len(nbytes))))
    size = images.schema.get_field_index("size")
    return images.set_column(size, "size", pa.array(nbytes, pa.int64()))


def names(work):
    return work.images["source_id"].to_pylist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, GROUP_BYTES * 2), max_size=30), st.integers(1, 40))
def test_all_are_given_out_once_in_groups_that_fit(sizes, count):
    queue, groups = PhotoQueue(PhotoWork(images=photos(*sizes))), []
    while queue:
        groups.append(queue.take(count))
    assert [name for work in groups for name in names(work)] == [f"{n:03d}.jpg" for n in range(len(sizes))]
    for work in groups:
        assert work.count == 1 or sum(work.images["size"].to_pylist()) <= GROUP_BYTES
        assert 1 <= work.count <= count
    assert queue.take(count) is None


def test_what_is_done_again_goes_first_and_as_it_is():
    work = PhotoWork(images=photos(*range(9)))
    queue = PhotoQueue(work)
    first = queue.take(3)
    first.attempts = 1
    queue.add_again(first)
    queue.add_again(first.pick(["002.jpg"]), first=True)
    assert [names(queue.take(1)) for _ in range(3)] == [
        ["002.jpg"],
        ["000.jpg", "001.jpg", "002.jpg"],
        ["003.jpg"],
    ]
    assert queue.left == 5


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_what_a_group_had_no_time_for_is_shared_out(count):
    queue = PhotoQueue(PhotoWork(images=photos(1, 1, 1, 1)))
    rest = queue.take(4)
    queue.add_again(rest, first=True)
    given = []
    while (work := queue.take(count)) is not None:
        assert work.count <= count
        given += names(work)
    assert given == names(rest)


def test_results_stay_beside_their_images():
    images, results = photos(1, 2, 3), pa.table({"n": [0, 1, 2]})
    work = PhotoWork(images=images, how="derive", results=results)
    assert work.slice(1, 2).results["n"].to_pylist() == [1, 2]
    assert work.pick(["000.jpg", "002.jpg"]).results["n"].to_pylist() == [0, 2]
    group = work.slice(2, 1).group(7, profiled=True)
    assert (group.id, group.work, group.count, group.profiled) == (7, "derive", 1, True)
    assert from_stream(group.results)["n"].to_pylist() == [2]


def answer(count, seconds):
    done = [PhotoRecord(status="done", source_id=str(n), tag="t") for n in range(count)]
    return GroupAnswer(rows=to_table(done), doubts=(), predict_seconds=seconds)


def test_a_group_is_two_seconds_of_work_and_less_towards_the_end():
    sizes = GroupSizes()
    assert sizes.images(left=10_000, slots=2) == FIRST_IMAGES
    sizes.learn(answer(0, 5.0))  # of nothing nothing is learned
    assert sizes.images(left=10_000, slots=2) == FIRST_IMAGES
    sizes.learn(answer(10, 0.1))
    assert sizes.images(left=10_000, slots=2) == 200
    assert sizes.images(left=400, slots=2) == 100
    assert sizes.images(left=4, slots=2) == FIRST_IMAGES
    for _ in range(50):
        sizes.learn(answer(100, 1e-6))
    assert sizes.images(left=10**6, slots=1) == MOST_IMAGES


def test_a_slow_image_makes_groups_of_one():
    sizes = GroupSizes()
    sizes.learn(answer(1, 100.0))
    assert sizes.images(left=np.iinfo(np.int32).max, slots=8) == 1


def test_photographs_that_are_done_alone_come_one_by_one_where_they_may():
    work = PhotoWork(images=photos(*range(9)))
    queue = PhotoQueue(work)
    first = queue.take(3)
    queue.add_again(first.pick(["000.jpg"]))
    queue.add_alone(first.pick(["001.jpg", "002.jpg"]))
    assert names(queue.take(1, alone=False)) == ["000.jpg"]
    one = queue.take(5)
    assert (names(one), one.alone, one.group(1).alone) == (["001.jpg"], True, True)
    queue.add_again(one)
    assert names(queue.take(6, alone=False)) == [f"{n:03d}.jpg" for n in range(3, 9)]
    assert queue.take(6, alone=False) is None
    assert queue
    assert [names(queue.take(6)) for _ in range(2)] == [["002.jpg"], ["001.jpg"]]
    assert not queue
