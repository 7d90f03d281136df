"""Region tables of masks as tests ask for them, and the files of an output."""

from factories import make_recipe
from photographs import NAMES, spots_mask, spotted
from rules import criterion

from batchseg.job.recipe import RegionSettings
from batchseg.output.photo_results import Finished, ResultWriter
from batchseg.output.record import SCHEMA
from batchseg.predict.photo import PhotoMask
from batchseg.regions.photo_table import Annotator
from batchseg.regions.rows import PHOTO_COLUMNS


def files(output):
    found = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def annotator(settings=RegionSettings(), *, nodata=255, pixel_size=None, sure=False, names=NAMES):  # noqa: B008
    return Annotator(settings, class_names=names, nodata=nodata, pixel_size=pixel_size, with_confidence=sure)


def mask_of(classes, confidence=None):
    return PhotoMask(classes=classes, confidence=confidence, tiles=1)


def rows_of(masks, confidences=None, **options):
    """One table of several masks by id."""
    made = annotator(sure=confidences is not None, **options)
    photos = [mask_of(mask, (confidences or {}).get(name)) for name, mask in masks.items()]
    table = made.rows(made.trace(photos), list(masks))
    table.validate(full=True)
    assert table.schema.equals(PHOTO_COLUMNS)
    return table


RULES = (criterion(name="large", min_area=30.0), criterion(name="blue", then="REVIEW", classes=(3,)))


SHAPES = [(31, 47), (47, 31), (5, 60), (1, 9), (70, 33)]


def masks_of(count=20):
    """By id: some without a defect, one of nodata alone, one with some."""
    masks = {}
    for number in range(count):
        pixels = spotted(*SHAPES[number % 5], seed=number, spots=number % 4)
        masks[f"line {number % 2}/ä{number:02d}.jpg"] = spots_mask(pixels)
    names = list(masks)
    masks[names[3]][:] = 255
    masks[names[7]][:9, :9] = 255
    return masks


def listing_row(name):
    return {"source_id": name, "tag": f"tag {name}", "uri": f"/in/{name}", "attributes": '{"line": "7"}'}


def written(output, masks, product, recipe=None, confidences=None, cpu_class="avx2", epoch=1):
    recipe = recipe or make_recipe(confidence=confidences is not None)
    writer = ResultWriter(str(output), recipe, product, cpu_class, epoch)
    for number, (name, mask) in enumerate(masks.items()):
        made = PhotoMask(classes=mask, confidence=(confidences or {}).get(name), tiles=number)
        writer.add(Finished(row=listing_row(name), mask=made, content=f"c{number}", same_as=""))
    table = writer.close()
    assert table.schema.equals(SCHEMA)
    table.validate(full=True)
    assert not any(column.null_count for column in table.columns)
    return table
