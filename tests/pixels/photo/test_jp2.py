import numpy as np
import pytest
import rasterio
from encoded import DEEP, HEIGHT, RGB, WIDTH, by_gdal
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.shutil import copy

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode


def test_sixteen_bits_are_kept():
    picture = decode(by_gdal(DEEP, driver="JP2OpenJPEG", quality=100, reversible="YES"), "x.j2k")
    assert np.array_equal(picture.pixels, DEEP)


@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_picture_that_is_cut_off_is_damaged(left):
    data = by_gdal(RGB, driver="JP2OpenJPEG")
    with pytest.raises(SourceError, match=r"damaged or cut off \(\S.*\S\)"):
        decode(data[: int(left * len(data))], "x.jp2")


def test_its_place_is_told():
    with MemoryFile(filename="x.jp2") as memory:
        profile = {"height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
        with memory.open(driver="JP2OpenJPEG", transform=Affine(3, 0, 5, 0, -3, 9), **profile) as dataset:
            dataset.write(np.moveaxis(RGB, 2, 0))
        assert decode(bytes(memory.read()), "x.jp2").place == "CRS, geotransform"


def test_the_order_of_its_bands_is_known_where_it_says_one(tmp_path):
    with rasterio.open(
        tmp_path / "x.tif", "w", driver="GTiff", height=HEIGHT, width=WIDTH, count=3, dtype="uint8"
    ) as dataset:
        dataset.write(np.moveaxis(RGB, 2, 0))
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    copy(tmp_path / "x.tif", tmp_path / "x.jp2", driver="JP2OpenJPEG")
    assert decode((tmp_path / "x.jp2").read_bytes(), "x.jp2").colors == ("blue", "green", "red")
    assert decode(by_gdal(RGB, driver="JP2OpenJPEG"), "x.jp2").colors == ()
