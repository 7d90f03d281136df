import dataclasses
import inspect
import pickle
import re
import typing

import pytest
from factories import make_package
from packages import bake_of

from batchseg.engines.base import ENGINES
from batchseg.models import package
from batchseg.models.deploy import OUTPUT_OPS
from batchseg.models.package import (
    PALETTE,
    ClassInfo,
    EngineName,
    Layout,
    ModelOptions,
    OutputKind,
    Padding,
    Resize,
)

RECORDS = [found for found in vars(package).values() if dataclasses.is_dataclass(found)]


def test_twenty_classes_have_colours_of_their_own():
    assert len(set(PALETTE)) == len(PALETTE) == 20
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in PALETTE)


@pytest.mark.parametrize("record", RECORDS)
def test_descriptions_cannot_be_changed_and_take_their_values_by_name(record):
    assert record.__dataclass_params__.frozen
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for parameter in inspect.signature(record).parameters.values()
    )


def test_a_package_is_a_value_in_every_process():
    """Actors get it, and caches ask whether they have it."""
    full = make_package(
        geometry=(Resize(target_hw=(3, 4)), Padding(target_hw=(5, 6), value=(127.5,))),
        classes=(ClassInfo(name="soil", color="#a0522d"),),
    )
    for value in (full, bake_of(3), ModelOptions(path="/models/land")):
        arrived = pickle.loads(pickle.dumps(value))
        assert arrived == value
        assert hash(arrived) == hash(value)
    assert dataclasses.replace(full, digest="1" * 64) != full


def test_names_that_are_spelt_out_twice_are_the_same():
    hints = typing.get_type_hints(ModelOptions)
    layout, output = (typing.get_args(hints[name])[0] for name in ("layout", "output"))
    assert set(typing.get_args(layout)) == set(typing.get_args(Layout))
    kinds = {*OUTPUT_OPS.values(), "sigmoid", "values"}
    assert set(typing.get_args(output)) == set(typing.get_args(OutputKind)) == kinds
    assert set(typing.get_args(EngineName)) == set(ENGINES)
