"""Job files that are wrong, and what is said of them."""

import pytest
from factories import write_job

from batchseg.errors import ConfigError
from batchseg.job.file import load_job


def refusal(path, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load_job(path, overrides)
    return str(caught.value)


RED = {"red": "a/{scene}_B4.tif"}


def photographs(tmp_path, *overrides, **keys):
    return load_job(write_job(tmp_path, **keys), overrides).photographs
