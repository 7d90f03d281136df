import dataclasses
import pickle

import pyarrow as pa
import pytest
from factories import make_scene, make_source
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg import errors
from batchseg.errors import MismatchError, SourceError
from batchseg.inputs.source import LISTING, ControlPoint, Doubt, Georeference, Refusal, compute, words

KINDS = [
    found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, SourceError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_and_a_doubt_say_what_the_error_says(kind):
    error = kind("block 7 is cut off")
    refusal = Refusal.of(make_source("a.tif"), error)
    assert (refusal.source, refusal.reason) == (make_source("a.tif"), "block 7 is cut off")
    assert refusal.transient == kind.transient
    doubt = Doubt.of("a.jpg", error)
    assert (doubt.source_id, doubt.reason, doubt.transient) == ("a.jpg", refusal.reason, refusal.transient)
    assert doubt.is_mismatch == (kind is MismatchError)
    assert doubt.is_own != kind.transient


def test_sources_and_scenes_are_values_in_every_process():
    point = ControlPoint(row=0.5, col=1.5, x=5e5, y=5e6, z=0.0, id="1")
    place = Georeference(crs_wkt=None, transform=None, gcps=(point,), gcps_crs_wkt=None, rpcs=(("OFF", "1"),))
    scene = make_scene(bands=5, georeference=place, source=make_source("ü/a.tif"))
    arrived = pickle.loads(pickle.dumps(scene))
    assert arrived == scene
    assert hash(arrived) == hash(scene)
    assert scene.band_count == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.source.tag = "tag-2"


@settings(deadline=None, max_examples=20)
@given(st.lists(st.none() | st.text(max_size=3), max_size=5), st.data())
def test_words_are_a_columns_cells_however_it_is_cut(cells, data):
    at = data.draw(st.integers(0, len(cells)))
    chunks = pa.chunked_array([pa.array(part, pa.string()) for part in (cells[:at], cells[at:])])
    assert words(chunks) == words(chunks.combine_chunks()) == cells
    assert words(compute.equal(chunks, "")) == [None if cell is None else cell == "" for cell in cells]


def test_a_listing_holds_what_no_32_bits_hold():
    row = dict.fromkeys(LISTING.names, "") | {"size": 2**40, "young": False}
    assert pa.Table.from_pylist([row], schema=LISTING).to_pylist() == [row]
