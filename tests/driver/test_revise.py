"""What is predicted, what is derived, and which masks go, against a plain reading of the same rows."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from factories import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from listings import PART, contents_of, done, ledger_of, listing
from photographs import product_of
from rules import box, criterion

from batchseg.driver.revise import find_copies, results_of, revise, surplus, with_attributes
from batchseg.inputs.source import LISTING
from batchseg.models.package import ClassInfo
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, PhotoRecord

RECIPE, PRODUCT = make_recipe(), product_of(masks="failed")
OTHER = replace(PRODUCT, classes=(ClassInfo(name="other", color="#000000"),))
NAMES = [f"line/{letter} ü.jpg" for letter in "abcdefgh"]
NOBODY = pa.array([], pa.string())


def output(path):
    return Output(path=path, nbytes=3, sha256="m")


def record(name, *, masks=("masks",), verdict="FAIL", **changes):
    layers = tuple(output(f"{layer}/{name}.png") for layer in masks)
    fields = {
        "status": "done",
        "tag": "t",
        "pixel": RECIPE.digest,
        "product": PRODUCT.digest,
        "outputs": (*layers, PART),
        "uri": f"/in/{name}",
        "attributes": "{}",
    }
    return PhotoRecord(source_id=name, verdict=verdict, **(fields | changes))


RECORDED = st.dictionaries(
    st.sampled_from(NAMES),
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(["done", "done", "done", "failed"]),
            "masks": st.sampled_from([(), ("masks",), ("masks", "confidence")]),
            "verdict": st.sampled_from(["PASS", "FAIL", "REVIEW", ""]),
            "tag": st.sampled_from("ttx"),
            "pixel": st.sampled_from([RECIPE.digest, RECIPE.digest, "x"]),
            "product": st.sampled_from([PRODUCT.digest, OTHER.digest]),
        }
    ),
)


def is_wanted(masks, verdict):
    return {"all": True, "none": False, "failed": verdict != "PASS"}[masks]


def table_of(factory, recorded):
    records = [record(name, **fields) for name, fields in recorded.items()]
    return ledger_of(factory.mktemp("out"), *records).table()


@settings(deadline=None, max_examples=60)
@given(
    RECORDED,
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
    st.sampled_from(["all", "failed", "none"]),
)
def test_work_is_split(tmp_path_factory, recorded, todo, vanished, masks):
    product = replace(PRODUCT, photographs=replace(PRODUCT.photographs, masks=masks))
    vanished -= todo
    known = table_of(tmp_path_factory, recorded)
    revision = revise(
        listing(*sorted(todo)), known, RECIPE, product, vanished=pa.array(sorted(vanished), pa.string())
    )
    derivable = [
        name
        for name in sorted(todo & recorded.keys())
        if recorded[name]["status"] == "done"
        and recorded[name]["pixel"] == RECIPE.digest
        and recorded[name]["product"] != product.digest
        and recorded[name]["tag"] == "t"
    ]
    unmasked = [
        name
        for name, fields in sorted(recorded.items())
        if name not in todo | vanished
        and (fields["status"], fields["pixel"], fields["product"]) == ("done", RECIPE.digest, product.digest)
        and not fields["masks"]
        and is_wanted(masks, fields["verdict"])
    ]
    assert revision.predict["source_id"].to_pylist() == sorted(todo - set(derivable))
    assert revision.derive["source_id"].to_pylist() == derivable + unmasked
    assert revision.results["source_id"].to_pylist() == derivable + unmasked
    assert revision.predict.schema == revision.derive.schema == LISTING
    assert revision.results.schema == known.schema
    assert revision.superseded == {
        name: [f"{layer}/{name}.png" for layer in recorded[name]["masks"]]
        for name in todo & recorded.keys()
        if recorded[name]["masks"]
    }


def test_what_is_gone_and_has_no_mask_stays_as_it_is(tmp_path):
    known = ledger_of(tmp_path, record("a.jpg", masks=()), record("b.jpg", masks=())).table()
    revision = revise(listing(), known, RECIPE, PRODUCT, vanished=pa.array(["a.jpg"]))
    assert revision.derive["source_id"].to_pylist() == ["b.jpg"]


def test_what_was_not_listed_is_taken_from_the_ledger(tmp_path):
    known = ledger_of(tmp_path, record("a.jpg", masks=(), attributes='{"line": "7"}')).table()
    revision = revise(listing(), known, RECIPE, PRODUCT, vanished=NOBODY)
    (row,) = revision.derive.to_pylist()
    assert {name: row[name] for name in ("source_id", "uri", "tag", "attributes", "problem", "young")} == {
        "source_id": "a.jpg",
        "uri": "/in/a.jpg",
        "tag": "t",
        "attributes": '{"line": "7"}',
        "problem": "",
        "young": False,
    }


@settings(deadline=None, max_examples=60)
@given(RECORDED, st.sampled_from(["all", "failed", "none"]))
def test_masks_that_the_job_no_longer_keeps_go(tmp_path_factory, recorded, masks):
    product = replace(PRODUCT, photographs=replace(PRODUCT.photographs, masks=masks))
    folder = tmp_path_factory.mktemp("out")
    ledger = ledger_of(folder, *(record(name, **fields) for name, fields in recorded.items()))
    rows, paths = surplus(ledger.table(), product)
    gone = {
        name: [f"{layer}/{name}.png" for layer in fields["masks"]]
        for name, fields in sorted(recorded.items())
        if fields["masks"] and not is_wanted(masks, fields["verdict"])
    }
    assert paths == [path for own in gone.values() for path in own]
    assert rows["source_id"].to_pylist() == list(gone)
    ledger.append_table(rows)
    again = Ledger(str(folder))
    for name, fields in recorded.items():
        expected = record(name, **fields)
        assert again.source(name) == (replace(expected, outputs=(PART,)) if name in gone else expected)
    assert surplus(again.table(), product)[1] == []


def test_attributes_follow_the_inputs(tmp_path):
    ledger = ledger_of(tmp_path, record("a.jpg"), record("b.jpg"), record("c.jpg"))
    said = listing("c.jpg", "a.jpg")
    said = said.set_column(said.schema.get_field_index("attributes"), "attributes", pa.array(["c", "a"]))
    ledger.append_table(with_attributes(ledger.table(), said))
    after = Ledger(str(tmp_path))
    for name, attributes in {"a.jpg": "a", "b.jpg": "{}", "c.jpg": "c"}.items():
        assert after.source(name) == record(name, attributes=attributes)


@pytest.mark.parametrize("masks", ["all", "failed", "none"])
def test_an_empty_ledger_gives_nothing_to_derive(tmp_path, masks):
    product = replace(PRODUCT, photographs=replace(PRODUCT.photographs, masks=masks))
    known = ledger_of(tmp_path).table()
    revision = revise(listing("a.jpg"), known, RECIPE, product, vanished=NOBODY)
    assert (len(revision.predict), len(revision.derive), revision.superseded) == (1, 0, {})
    assert surplus(known, product) == (known, [])


def find(todo, contents, known):
    return find_copies(todo, contents_of(contents), known, pixel="p", product="q")


LETTERS = [f"{letter}.jpg" for letter in "abcdefgh"]


RECORDS = st.dictionaries(
    st.sampled_from(LETTERS),
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
    st.sets(st.sampled_from(LETTERS)),
    st.dictionaries(st.sampled_from(LETTERS), st.sampled_from("1234"), max_size=8),
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
    ledger.append(
        [done("b.jpg", "2"), PhotoRecord(status="quarantined", source_id="d.jpg", tag="t", error="cut")]
    )
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


def test_what_a_rule_must_know_is_read_from_masks_again(tmp_path):
    """An earlier version, or other rules, did not ask how much of this region of interest has data."""
    rule = criterion(interest=box(0, 0, 0.5, 1, unit="share"))
    product = product_of(rule, masks="all")
    told = {"interests": product.rules.interests, "interest_valid": (6.0,)}
    size = {"height": 6, "width": 4, "product": product.digest}
    known = ledger_of(
        tmp_path,
        record(NAMES[0], valid_pixels=24, **size),
        record(NAMES[1], valid_pixels=0, **size),
        record(NAMES[2], valid_pixels=12, **size),
        record(NAMES[3], valid_pixels=12, **size, **told),
        record(NAMES[4], valid_pixels=12, **size, **told | {"interests": "others"}),
        record(NAMES[5], valid_pixels=12, **size),
        record(NAMES[6], valid_pixels=12, status="failed", **size),
    ).table()
    revision = revise(LISTING.empty_table(), known, RECIPE, product, vanished=pa.array([NAMES[5]]))
    assert revision.derive["source_id"].to_pylist() == [NAMES[2], NAMES[4]]
    assert revision.results["source_id"].to_pylist() == [NAMES[2], NAMES[4]]
    whole = product_of(criterion(), masks="all")
    assert not revise(LISTING.empty_table(), known, RECIPE, whole, vanished=NOBODY).derive.num_rows
