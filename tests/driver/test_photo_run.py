"""A run over photographs, inline: a look before the start, copies, and what its report holds."""

from pathlib import Path

import pytest
from photo_runs import JobMaker, photograph, save
from runs import run

from batchseg.errors import ConfigError


def test_a_job_that_fits_no_photograph_is_refused_before_anything_is_done(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", photograph(number)[..., 0])
    with pytest.raises(ConfigError, match="fits none of its inputs"):
        run(photo_job())
    save(tmp_path / "in" / "colour.png", photograph(9, red=1))
    assert run(photo_job()).tally.done == 1


def test_each_content_is_predicted_once(tmp_path: Path, photo_job: JobMaker) -> None:
    image = photograph(1, red=2)
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, image)
    report = run(photo_job(same_content=True))
    assert (report.tally.done, report.copied) == (3, 2)
    assert report.verdicts is not None
    assert sum(report.verdicts.values()) == 3
    again = run(photo_job(same_content=True))
    assert (again.tally.done, again.skipped) == (0, 3)


def test_other_rules_judge_again_and_predict_nothing(tmp_path: Path, photo_job: JobMaker) -> None:
    save(tmp_path / "in" / "a.png", photograph(1, red=2))
    assert run(photo_job()).rejudged == 0
    strict = [{"name": "any red", "class": "red", "min_area": 1}]
    report = run(photo_job(rules=strict))
    assert (report.tally.predicted, report.rejudged, report.verdicts) == (0, 1, {"FAIL": 1})
