"""A quantised network that is kept, as it is on the host that runs it."""

import dataclasses
from pathlib import Path

import pytest
from factories import make_package, make_recipe

from batchseg.engines.graphs.quantize import BIN, XML, pack
from batchseg.errors import ModelError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.models.package import Resize
from batchseg.predict.kept_network import kept_network
from batchseg.system.fetch import sha256


@pytest.fixture
def quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quantized:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "cache"))
    for name in (XML, BIN):
        (tmp_path / name).write_text(name)
    pack(tmp_path, tmp_path / "network.zip")
    return Quantized(root=str(tmp_path), path="network.zip", digest=sha256(str(tmp_path / "network.zip")))


def recipe_of(side: int, **model) -> Recipe:
    return make_recipe(model=make_package(format="onnx", **model), tile_size=side, halo=8, bake=None)


@pytest.mark.parametrize(
    ("model", "side", "expected"),
    [
        ({"size_hw": (64, 64)}, 64, (64, 64)),
        ({"size_hw": (64, 64)}, 96, (None, None)),  # it was opened before it was quantised
        ({"size_hw": (None, None)}, 96, (None, None)),
        ({"size_hw": (64, 64), "geometry": (Resize(target_hw=(64, 64)),)}, 96, (64, 64)),
    ],
)
def test_it_takes_the_tiles_that_it_was_made_for(model, side, expected, quantized: Quantized) -> None:
    network = kept_network(recipe_of(side, **model), quantized)
    assert network.size_hw == expected
    assert (network.format, network.quantized) == ("openvino", True)
    assert Path(network.path).read_text() == XML


def test_another_file_in_its_place_is_refused(quantized: Quantized) -> None:
    other = dataclasses.replace(quantized, digest="0" * 64)
    with pytest.raises(ModelError, match="is not the network in int8 that this output is made with"):
        kept_network(recipe_of(64), other)
