"""Photographs of equal content against a plain reading of the same rows."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from listings import PART, contents_of, done, ledger_of, listing

from batchseg.driver.revise import find_copies, results_of
from batchseg.inputs.source import LISTING
from batchseg.output.record import PhotoRecord


def find(todo, contents, known):
    return find_copies(todo, contents_of(contents), known, pixel="p", product="q")


NAMES = [f"{letter}.jpg" for letter in "abcdefgh"]
RECORDS = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.sampled_from(["done", "done", "quarantined", "failed"]),
        st.sampled_from("123"),
        st.sampled_from("ppx"),
        st.sampled_from("qqx"),
    ),
)


@settings(deadline=None, max_examples=60)
@given(
    RECORDS,
    st.sets(st.sampled_from(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from("1234"), max_size=8),
)
def test_each_content_is_predicted_once(tmp_path_factory, recorded, todo, contents):
    records = [
        done(name, content, status=status, pixel=pixel, product=product)
        for name, (status, content, pixel, product) in recorded.items()
    ]
    known = ledger_of(tmp_path_factory.mktemp("out"), *records).table()
    contents = {name: content for name, content in contents.items() if name in todo}
    copies = find(listing(*sorted(todo)), contents, known)

    usable = {
        content: name
        for name, (status, content, pixel, product) in sorted(recorded.items(), reverse=True)
        if (status, pixel, product) == ("done", "p", "q") and name not in todo
    }
    predict, copied = [], {}
    for name in sorted(todo):
        content = contents.get(name)
        if content in usable:
            copied[name] = usable[content]
        else:
            predict.append(name)
            if content is not None:
                usable[content] = name
    assert copies.predict["source_id"].to_pylist() == predict
    assert copies.copied["source_id"].to_pylist() == list(copied)
    assert copies.originals.to_pylist() == list(copied.values())
    assert copies.predict.schema == copies.copied.schema == LISTING


def test_copies_get_the_originals_results_or_are_predicted_themselves(tmp_path):
    ledger = ledger_of(tmp_path, done("old.jpg", "1"), done("odd.jpg", "", tag="x"))
    todo = listing("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
    same = {"a.jpg": "1", "b.jpg": "2", "c.jpg": "2", "d.jpg": "3", "e.jpg": "3", "f.jpg": "3"}
    copies = find(todo, same, ledger.table())
    assert copies.predict["source_id"].to_pylist() == ["b.jpg", "d.jpg"]
    cut = PhotoRecord(status="quarantined", source_id="d.jpg", tag="t", error="cut")
    ledger.append([done("b.jpg", "2"), cut])
    images, results, left = results_of(copies, ledger.table())
    assert images["source_id"].to_pylist() == ["a.jpg", "c.jpg"]
    assert results["source_id"].to_pylist() == ["old.jpg", "b.jpg"]
    assert left["source_id"].to_pylist() == ["e.jpg", "f.jpg"]
    assert results["outputs"].to_pylist()[0][0]["path"] == PART.path


def test_an_original_that_was_never_recorded_leaves_its_copies_to_do(tmp_path):
    ledger = ledger_of(tmp_path)
    copies = find(listing("a.jpg", "b.jpg"), {"a.jpg": "1", "b.jpg": "1"}, ledger.table())
    images, results, left = results_of(copies, ledger.table())
    assert (len(images), len(results), left["source_id"].to_pylist()) == (0, 0, ["b.jpg"])


def test_a_million_contents_need_no_object_each(tmp_path):
    count = 200_000
    todo = listing("a.jpg").take(np.zeros(count, np.int64))
    names = pa.array(np.char.add("n", np.arange(count).astype(str)))
    todo = todo.set_column(0, "source_id", names)
    contents = pa.table({"source_id": names, "content": pa.array((np.arange(count) // 2).astype(str))})
    copies = find_copies(todo, contents, ledger_of(tmp_path).table(), pixel="p", product="q")
    assert (len(copies.predict), len(copies.copied)) == (count // 2, count // 2)
