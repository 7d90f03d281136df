import dataclasses

import pytest
from factories import make_recipe

from batchseg.errors import ConfigError, ModelError
from batchseg.job.file import make_job
from batchseg.job.numbers import check_numbers, class_count_of, sides


def job(tmp_path, **keys):
    plain = {"inputs": "in", "model": "net.onnx", "output": "out"}
    return make_job(plain | keys, name="job.yaml", folder=tmp_path)


def test_a_job_of_numbers_says_so_to_the_model(tmp_path):
    config = job(tmp_path, result="values")
    assert (config.model.output, config.regions) == ("values", None)
    assert config.values is not None
    assert not config.values.divides
    assert (class_count_of(config), sides(config)) == (0, ())


def test_a_threshold_has_two_sides(tmp_path):
    config = job(tmp_path, result="values", values={"threshold": -3})
    assert config.regions is not None
    assert class_count_of(config) == 2
    assert [side.name for side in sides(config)] == ["below the threshold", "above the threshold"]


def test_good_images_lie_beside_the_job(tmp_path):
    config = job(
        tmp_path, fit="resize", result="values", values={"threshold": {"percentile": 99, "of": "ok"}}
    )
    assert config.values is not None
    assert (config.values.good, config.values.percentile) == (str(tmp_path / "ok"), 99)
    assert config.values.divides
    assert config.values.threshold is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": {"percentile": 101, "of": "ok"}}, "values: percentile: input should be less than"),
        ({"threshold": "high"}, "values: threshold: expected a number, or"),
        ({"threshold": {"percentile": 99}}, "values: threshold: .*expected a number, or|values: of: field"),
        (3, "expected {dtype: uint16"),
        ({"treshold": 1}, "Perhaps you meant 'threshold'"),
        ({"dtype": "int8"}, "values: dtype: input should be 'float32' or 'uint16'"),
    ],
)
def test_wrong_keys_are_named(tmp_path, values, words):
    with pytest.raises(ConfigError, match=words):
        job(tmp_path, fit="resize", result="values", values=values)


def test_classes_and_numbers_are_not_taken_for_each_other(tmp_path):
    recipe = make_recipe()
    with pytest.raises(ModelError, match="one band of floats a pixel"):
        check_numbers(job(tmp_path, result="values"), recipe.model, recipe.facts)
    numbers = dataclasses.replace(recipe.facts, output="values")
    with pytest.raises(ConfigError, match="add result: values"):
        check_numbers(job(tmp_path), recipe.model, numbers)
