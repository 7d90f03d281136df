"""Who does groups of photographs, and that scenes are spared their decoders."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from photographs import network_of, product_of

from batchseg.driver.executors.group_worker import group_worker
from batchseg.driver.photo_worker import GroupWorker


@pytest.mark.parametrize("with_photographs", [False, True])
def test_only_photographs_have_a_worker(models: Path, with_photographs: bool) -> None:
    recipe, predictor = network_of(models)
    product = product_of() if with_photographs else SimpleNamespace(photographs=None)
    worker = group_worker("out", recipe, product, predictor, batch_size=2, readers=1, cpu_class="avx2")
    assert isinstance(worker, GroupWorker) == with_photographs


def test_executors_load_no_decoder_of_photographs() -> None:
    code = (
        "import sys; import batchseg.driver.executors.inline, batchseg.driver.executors.ray.predictors; "
        "print([name for name in sys.modules if 'photo_worker' in name or name == 'simplejpeg'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
