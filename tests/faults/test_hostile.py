"""Hostile input, quickly: what the campaign's section of this name looks at with thousands of files."""

import random
from pathlib import Path

import numpy as np
import pytest
import rasterio
from factories import find_sources, make_config, make_photographs

from batchseg.errors import ConfigError, SourceError
from batchseg.inputs.formats import VRT_REFUSED, check_beside, driver_of
from batchseg.inputs.listing import list_inputs
from batchseg.inputs.source import Refusal, Scene
from batchseg.job.file import load_job
from batchseg.pixels.header import read_header
from batchseg.system.processes import call_in_fresh_process
from faults import mutants
from faults.hostile import STRANGE_ROWS, _jobs, listener, opinions, pointers, vrt

DRIVERS = {"tif": "GTiff", "jpg": "JPEG", "jp2": "JP2OpenJPEG", "webp": "WEBP"}


def test_the_content_names_the_driver_that_gdal_itself_finds():
    for original in mutants.originals():
        suffix = original.name.rpartition(".")[2]
        with rasterio.MemoryFile(original.data) as memory, memory.open() as dataset:
            assert driver_of(original.data[:512], allow_vrt=False) == dataset.driver
        assert DRIVERS.get(suffix, suffix.upper()) == dataset.driver


@pytest.mark.parametrize("head", ["", "\ufeff", "\n  ", '<?xml version="1.0"?>\n', "<!-- a --> \n<!-- b -->"])
def test_a_vrt_is_known_however_it_begins(head):
    data = (head + vrt("a.tif")).encode()
    assert driver_of(data, allow_vrt=True) == "VRT"
    with pytest.raises(SourceError, match=VRT_REFUSED):
        driver_of(data, allow_vrt=False)


def test_nothing_that_points_elsewhere_is_followed(tmp_path):
    (tmp_path / "in").mkdir()
    with listener() as (port, heard):
        refused = pointers(tmp_path / "in", port)
        config = make_config(inputs=((None, str(tmp_path / "in")),))
        sources, _ = find_sources(config, {})
        answers = _look_apart(sources)
    assert refused <= {source.source_id for source in sources}
    for source, answer in zip(sources, answers, strict=True):
        assert (answer == "") == (source.source_id not in refused), (source.source_id, answer)
    assert not heard
    assert not (tmp_path / "in" / "pwned").exists()


def test_a_vrt_that_is_allowed_asks_no_network(tmp_path):
    """Nor one that it reads, nor a service's description in place of a raster, nor the listing."""
    (tmp_path / "in").mkdir()
    with listener() as (port, heard):
        pointers(tmp_path / "in", port)
        for name, member in (("outer", "inner.dat"), ("inner", f"http://127.0.0.1:{port}/q.tif")):
            (tmp_path / "in" / f"{name}.{'vrt' if name == 'outer' else 'dat'}").write_text(
                vrt(str(tmp_path / "in" / member) if name == "outer" else member)
            )
        config = make_config(inputs=((None, str(tmp_path / "in")),), allow_vrt=True)
        sources, _ = find_sources(config, {})
        answers = dict(zip((s.source_id for s in sources), _look_apart(sources), strict=True))
    assert not heard
    for name in ("network.vrt", "network.tif", "member.vrt", "xml.tif", "warped.vrt", "outer.vrt"):
        assert "nothing is fetched from the network" in answers[name], name
    assert not (tmp_path / "in" / "pwned").exists()


def _look_apart(sources):
    return call_in_fresh_process(_look, sources, timeout=120)


def _look(sources):
    """Why each was refused; empty where its header, mask and overviews could be read."""
    answers = []
    for source in sources:
        header = read_header(source)
        answers.append(header.reason if isinstance(header, Refusal) else "")
        if isinstance(header, Scene):
            with rasterio.open(source.uri) as dataset:
                dataset.dataset_mask()
                dataset.overviews(1)
    return answers


def test_a_mask_of_another_format_is_refused_and_a_tiff_is_not(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(mutants.tiff(mutants.plain_tags()))
    check_beside(path)
    (tmp_path / "a.tif.msk").write_bytes(path.read_bytes())
    check_beside(path)
    (tmp_path / "a.msk").write_text(vrt("b.tif"))
    with pytest.raises(SourceError, match=r"^\.msk beside it is no TIFF"):
        check_beside(path)


@pytest.mark.parametrize("family", mutants.FAMILIES)
def test_damaged_files_are_refused_or_what_another_reader_sees(family):
    kinds = mutants.originals()
    files = list(mutants.variants(kinds, family, len(kinds), random.Random(family)))
    wrong = call_in_fresh_process(opinions, files, timeout=120)
    assert not wrong


def test_bombs_are_refused_before_they_are_unpacked():
    wrong = call_in_fresh_process(opinions, [*mutants.bombs(), *mutants.odd_texts()], timeout=120)
    assert not wrong


JOBS = [(what, make) for what, _, make in _jobs() if "lists in" not in what and "numbers" not in what]


@pytest.mark.parametrize(("what", "make"), JOBS, ids=[what for what, _ in JOBS])
def test_hostile_job_files_are_refused(tmp_path, what, make):
    path = tmp_path / "job.yaml"
    path.write_text(make(tmp_path))
    with pytest.raises(ConfigError):
        load_job(path)


def test_aliases_within_reason_are_followed(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("inputs: in\nmodel: &m models/x\noutput: *m\nbands: &b [1, 2]\n")
    assert load_job(path).output == load_job(path).model.path


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_strange_rows_are_those_sources_problem(tmp_path, suffix):
    (tmp_path / "a.tif").write_bytes(mutants.tiff(mutants.plain_tags(), tail=bytes(64)))
    rows = [*STRANGE_ROWS, "a.tif", *(["nul\0.tif"] if suffix == ".txt" else [])]
    lines = ["uri", *(f'"{row}"' for row in rows)] if suffix == ".csv" else rows
    (tmp_path / f"list{suffix}").write_text("\n".join(lines) + "\n")
    given = ((None, str(tmp_path / f"list{suffix}")),)
    config = make_config(inputs=given, photographs=make_photographs())
    sources, _ = find_sources(config, {})
    assert [s.source_id for s in sources if isinstance(read_header(s), Scene)] == ["a.tif"]
    listed, _ = list_inputs(config, {})
    problems = dict(zip(listed["source_id"].to_pylist(), listed["problem"].to_pylist(), strict=True))
    assert len(problems) == len(sources)
    assert {name for name, problem in problems.items() if not problem} >= {"a.tif"}


def test_a_scene_whose_name_leaves_no_room_is_refused(tmp_path):
    path = tmp_path / f"{'n' * 240}.tif"
    with rasterio.open(path, "w", driver="GTiff", height=3, width=5, count=1, dtype="uint8") as dataset:
        dataset.write(np.ones((1, 3, 5), np.uint8))
    (source,), _ = find_sources(make_config(inputs=((None, str(tmp_path)),)), {})
    header = read_header(source)
    assert isinstance(header, Refusal)
    assert "leaves no room" in header.reason


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_an_endless_line_is_no_manifest(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("uri\n" + "a" * 500_000)
    with pytest.raises(ConfigError, match=r"characters|field limit") as caught:
        find_sources(make_config(inputs=((None, str(tmp_path / name)),)), {})
    assert len(str(caught.value)) < 1000
