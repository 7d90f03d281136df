"""Which of a raster's overviews is read in its place, where larger pixels are wanted than its own."""

from rasterio import DatasetReader
from rasterio.enums import MaskFlags

from batchseg.pixels.regrid import same_grid
from batchseg.pixels.stack import Stack

ROUNDING = 0.01
"""Share by which an overview's size may be off a whole fraction of the raster's."""


def level(dataset: DatasetReader | Stack, target_hw: tuple[int, int]) -> int | None:
    """The smallest overview that is no smaller than wanted, as rasterio counts them; None: there is none.

    A raster with a mask of the whole file is read as it is: GDAL takes all of an overview for valid if the
    mask has none. So is a JPEG 2000, whose smaller images hold a wavelet's even samples, which shifts them by
    up to half a pixel. So are files on several grids, and those of a scene with flags.

    Args:
        dataset: the raster itself, or the files of a scene.
        target_hw: height and width that are wanted.
    """
    if isinstance(dataset, Stack):
        members = [member for _, member in dataset.members()]
        if dataset.mask is not None or not all(same_grid(one, members[0]) for one in members):
            return None
    else:
        members = [dataset]
    if any(_is_masked(one) or one.driver.startswith("JP2") for one in members):
        return None
    kinds = {tuple(one.overviews(band)) for one in members for band in one.indexes}
    if len(kinds) != 1:
        return None
    ratio = min(own / wanted for own, wanted in zip(members[0].shape, target_hw, strict=True))
    factors = {
        number: factor for number, factor in enumerate(kinds.pop()) if factor <= ratio * (1 + ROUNDING)
    }
    return max(factors, key=factors.__getitem__, default=None)


def _is_masked(member: DatasetReader) -> bool:
    flags = member.mask_flag_enums[0]
    return bool(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)
