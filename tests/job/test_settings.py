from factories import write_job

from batchseg.job.file import load_job
from batchseg.job.settings import Gate, Scale
from batchseg.models.package import PALETTE, ClassInfo, Normalize


def test_defaults_are_filled_in(tmp_path):
    config = load_job(write_job(tmp_path))
    assert (config.bands, config.compress) == (None, "deflate")
    assert (config.engine, config.precision, config.tile_size, config.halo) == ("auto", "auto", None, None)
    assert config.gate == Gate(equal_pixels=0.9999, iou=0.999, budget=20)
    assert config.scale == Scale(kind="transforms", low=(0.0,), high=(255.0,))
    assert (config.normalize, config.nodata, config.classes) == ("model", "source", ())


def test_classes_take_colours_from_the_palette_in_turn(tmp_path):
    names = ["soil", {"name": "water", "color": "#0000ff"}, *(f"c{n}" for n in range(40))]
    classes = load_job(write_job(tmp_path, classes=names)).classes
    assert classes[0] == ClassInfo(name="soil", color=PALETTE[0])
    assert classes[1] == ClassInfo(name="water", color="#0000ff")
    assert classes[21].color == PALETTE[1]


def test_scale_and_normalize_take_one_value_per_band(tmp_path):
    config = load_job(
        write_job(
            tmp_path, scale={"stretch": [[0, 10], [100, 200]]}, normalize={"mean": [0, 0.5], "std": [1, 2]}
        )
    )
    assert config.scale == Scale(kind="stretch", low=(0.0, 10.0), high=(100.0, 200.0))
    assert config.normalize == Normalize(mean=(0.0, 0.5), std=(1.0, 2.0))
