"""Halo tables of a job's model: measured once, and only where it takes little."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
from factories import find_sources, make_config, make_recipe, write_raster
from probed import bare, noise, write_conv

from batchseg.errors import ConfigError, ModelError
from batchseg.models.package import Resize
from batchseg.predict import halo, halo_probe
from batchseg.predict.halo import HaloFigure, enough, geometry, halos_to_try
from batchseg.predict.halo_probe import Halos, is_narrow, known_halos, measured, seconds_needed
from batchseg.predict.remembered import recall_halos


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "cache"))


def job(folder: Path, radius: int = 3):
    recipe = bare(write_conv(folder / "a.onnx", radius, gain=8.0))
    write_raster(folder / "in" / "a.tif", noise(recipe, 700).pixels)
    return recipe, find_sources(make_config(inputs=((None, f"{folder}/in/*.tif"),)), {})[0]


def test_halos_are_measured_once_for_a_model_and_its_kind_of_data(tmp_path: Path, monkeypatch) -> None:
    recipe, sources = job(tmp_path)
    recipe = dataclasses.replace(recipe, facts=dataclasses.replace(recipe.facts, seconds_per_tile=1e-4))
    known = known_halos(recipe, sources, workers=1, seconds=60)
    found = known.table
    assert known.why == ""
    assert [figure.halo for figure in found] == [16, 32, 64, 96, 128, 256]
    assert all(figure.changed == 0 for figure in found)
    assert all(figure.shown > 0.2 * figure.pixels for figure in found)  # of noise, in three classes
    assert recall_halos(recipe) == found
    monkeypatch.delattr(halo_probe, "measured")
    # Also where there is no source, or no time.
    assert known_halos(recipe, [], workers=1, seconds=0) == known


def test_what_would_take_too_long_or_has_no_pixels_is_not_measured(tmp_path: Path, monkeypatch) -> None:
    recipe, sources = job(tmp_path)
    monkeypatch.delattr(halo_probe, "measured")
    shape = geometry(recipe)
    assert shape is not None
    needed = seconds_needed(recipe, shape)
    # Squares of 288 to 1,280 pixels by tiles of 64, each of 0.1 s, and a start.
    sides = [288, 320, 384, 448, 512, 768, 1280]
    assert [shape.tile(halo)[1] for halo in (*halos_to_try(recipe, shape), 512)] == sides
    assert needed == pytest.approx(3 + 0.1 * sum(side**2 for side in sides) / 64**2)
    quick = 3 + 0.1 * sum(side**2 for side in (160, 192, 256, 320, 384, 640)) / 64**2
    too_long = known_halos(recipe, sources, workers=1, seconds=quick - 0.1)
    assert too_long.table == ()
    assert re.match(rf"to measure it takes {needed:.0f} s or more, {quick - 0.1:.0f} s may be", too_long.why)
    assert known_halos(recipe, [], workers=1, seconds=1e9) == Halos()
    resized = dataclasses.replace(recipe.model, geometry=(Resize(target_hw=(64, 64)),))
    assert known_halos(dataclasses.replace(recipe, model=resized), sources, workers=1, seconds=1e9) == Halos()


@pytest.mark.parametrize(("radius", "good"), [(3, 16), (40, None)])
def test_where_time_is_short_less_is_looked_at_and_only_what_is_enough_is_believed(
    radius, good, tmp_path, monkeypatch
):
    """With halves of core and halo a fourth of the work is left."""
    monkeypatch.setattr(halo, "WIDEST", 96)
    monkeypatch.setattr(halo, "CORE", 32)
    recipe, sources = job(tmp_path, radius)
    shape = geometry(recipe)
    assert shape is not None
    seconds = seconds_needed(recipe, shape) - 0.1
    found = known_halos(recipe, sources, workers=1, seconds=seconds)
    if good is None:
        assert found.table == ()
        assert found.why.startswith("up to 32 none is enough, and wider ones take")
        assert recall_halos(recipe) is None
    else:
        assert [figure.halo for figure in found.table] == [16, 32]
        assert enough(found.table) == good
        assert recall_halos(recipe) == found.table


@pytest.mark.parametrize(
    ("side", "flat", "why"),
    [
        (600, False, "no image has the 641 pixels a side that show it"),
        (700, True, "the images that were looked at show one class"),
    ],
)
def test_images_that_tell_nothing_are_not_believed_nor_remembered(side, flat, why, tmp_path: Path) -> None:
    recipe, _ = job(tmp_path)
    recipe = dataclasses.replace(recipe, facts=dataclasses.replace(recipe.facts, seconds_per_tile=1e-4))
    pixels = noise(recipe, side).pixels
    write_raster(tmp_path / "in" / "a.tif", np.full_like(pixels, 7) if flat else pixels)
    sources = find_sources(make_config(inputs=((None, f"{tmp_path}/in/*.tif"),)), {})[0]
    found = known_halos(recipe, sources, workers=1, seconds=60)
    assert (found.table, found.why) == ((), why)
    assert recall_halos(recipe) is None


def test_sources_that_give_no_pixels_are_said_and_nothing_is_remembered(tmp_path: Path) -> None:
    recipe, _ = job(tmp_path)
    (tmp_path / "in" / "a.tif").write_text("no raster")
    sources = find_sources(make_config(inputs=((None, f"{tmp_path}/in/*.tif"),)), {})[0]
    with pytest.raises(ConfigError):
        known_halos(recipe, sources, workers=1, seconds=1e9)
    assert recall_halos(recipe) is None


def dies(*_: object) -> None:
    os.abort()


def test_a_network_that_ends_its_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = job(tmp_path)
    monkeypatch.setattr(halo_probe, "_measure", dies)
    shape = geometry(recipe)
    assert shape is not None
    with pytest.raises(ModelError, match=r"that predicted tiles with several halos was ended by SIGABRT"):
        measured(recipe, shape, [noise(recipe, 100)], (16,), workers=1, seconds=1)


@pytest.mark.parametrize(
    ("halo", "fit", "narrow"),
    [(16, None, True), (32, None, False), (40, None, True), (48, None, False), (16, "resize", False)],
)
def test_a_halo_is_narrow_below_what_is_enough_and_where_it_is_wrong_again(halo, fit, narrow) -> None:
    recipe = make_recipe(halo=halo, tile_size=256, fit=fit)
    recipe = dataclasses.replace(recipe, facts=dataclasses.replace(recipe.facts, stride=16))
    table = tuple(
        HaloFigure(halo=one, pixels=10_000, changed=changed, probability=0.0, lines_up=one != 40)
        for one, changed in ((16, 100), (32, 0), (40, 50), (64, 0))
    )
    assert is_narrow(recipe, table) is narrow
    never = tuple(dataclasses.replace(figure, changed=100) for figure in table)
    assert not is_narrow(recipe, never)
