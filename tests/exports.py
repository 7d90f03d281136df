"""deploy.yaml as exports of several versions write it."""

import pytest

from batchseg.errors import ModelError
from batchseg.models.reading import read_model

NORMALIZE = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PADDLESEG_28 = {
    "Deploy": {
        "input_shape": [-1, 3, -1, -1],
        "model": "model.pdmodel",
        "output_dtype": "int32",
        "output_op": "argmax",
        "params": "model.pdiparams",
        "transforms": [NORMALIZE],
    }
}


def refusal(folder) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message
