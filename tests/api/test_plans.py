import dataclasses

from factories import make_photographs, make_product, make_recipe

from batchseg.api.plans import describe_values, human, plan_photographs
from batchseg.driver.dry_run import PhotoPlan
from batchseg.job.settings import Scale


def test_values_that_metadata_scale_are_described() -> None:
    recipe = make_recipe(scale=Scale(kind="metadata", low=(0.0,), high=(1.0,)), normalize=None)
    assert describe_values(recipe) == "to reflectance by each scene's own scale and offset, not normalised"


def test_sizes_have_the_unit_that_fits() -> None:
    assert [human(n) for n in (0, 1023, 1024, 5 * 2**40)] == ["0 B", "1023 B", "1.0 KiB", "5.0 TiB"]


def test_a_plan_of_photographs_is_numbers_and_words() -> None:
    product = dataclasses.replace(make_product("good", "hole"), photographs=make_photographs())
    planned = PhotoPlan(
        recipe=make_recipe(),
        product=product,
        predict=5,
        derive=2,
        file_bytes=2048,
        done=7,
        quarantined=1,
        gone=3,
        young=1,
        min_age=60.0,
        workers=2,
        undecided=False,
        limits="1.5 of 8 CPUs (/g/cpu.max)",
    )
    plan = plan_photographs(planned)
    assert (plan.photographs, plan.todo, plan.derive, plan.done, plan.gone) == (True, 5, 2, 7, 3)
    assert (plan.bytes_in, plan.tiles) == (2048, None)
    lines = str(plan).splitlines()
    assert lines[2] == (
        "photos   5 to do (2.0 KiB), 2 to derive from stored results, 7 done, 1 quarantined before, 3 gone"
    )
    assert lines[-2] == "limits   1.5 of 8 CPUs (/g/cpu.max)"
    assert lines[-1].startswith("young    1 source changed less than 1 min ago")
