"""Scenes as agencies deliver them: products of Landsat and Sentinel-2, found below a folder."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from batchseg.inputs.left_out import LeftOut, scenes_unseen
from batchseg.inputs.metadata_places import MetadataPlaces
from batchseg.inputs.one_scene import Finders, SceneFiles, made_scene
from batchseg.inputs.product_files import (
    Product,
    Products,
    flags_of,
    is_archive,
    names_product,
    part_of,
    wanted_file,
)
from batchseg.inputs.selection import InputSelection, ending_of
from batchseg.inputs.sidecars import Beside, is_sidecar
from batchseg.job.products import LEVEL_1C_FLAGS, LEVEL_1C_VECTORS, Flags, Preset, landsat_assets
from batchseg.job.settings import SceneSet
from batchseg.system import archives, listing
from batchseg.system.file_info import FileInfo
from batchseg.system.location import Location
from batchseg.system.walk import walk

TITLES = {"landsat": "Landsat", "sentinel2": "Sentinel-2"}

LOOKED_FOR = {
    "landsat": "files such as LC08_L2SP_038031_20180901_20200820_02_T1_SR_B4.TIF, or its .tar or .zip",
    "sentinel2": "folders with MTD_MSIL2A.xml or MTD_MSIL1C.xml and GRANULE/*/IMG_DATA, or its .zip or .tar",
}
"""In words, where there are none."""


NONE: Counter[str] = Counter()
"""Of the many folders that hold nothing else."""


class _Selection(InputSelection):
    """Of an input's folders the files that may be of products: by their names, archives and sidecars."""

    def __init__(self, given: SceneSet, output: str, left_out: LeftOut) -> None:
        super().__init__(given.path, output, frozenset(), left_out, whole_folder=False, sidecars=True)
        self._fits = wanted_file(cast(Preset, given.kind))
        self.others: dict[str, Counter[str]] = {}
        """By folder that holds files, the endings of those that no product has."""

    def wants(self, folder: str, name: str) -> bool:
        if name.startswith("."):
            return False
        kinds = self.others.setdefault(folder, NONE)
        if self._fits.fullmatch(name) or is_archive(name) or is_sidecar(name):
            return True
        self.others[folder] = kinds + Counter([ending_of(name)])
        return False


def by_product(given: SceneSet, output: str, left_out: LeftOut) -> Iterator[SceneFiles]:
    """The products below a folder, or below what a glob matches, sorted by id.

    Args:
        given: the set, of kind `landsat` or `sentinel2`.
        output: of the job, which is not entered.
        left_out: told which folders are left out.

    Raises:
        SourceIOError: the storage cannot be listed.
        ValueError: the folder is on a web server, or the pattern is none.
    """
    preset = cast(Preset, given.kind)
    closed = len(left_out.closed)
    products, beside = Products(preset), Beside()
    files, others = _files(given, output, left_out)
    for info in files:
        if is_archive(info.uri):
            _add_archive(products, info, preset, left_out)
        elif not is_sidecar(info.uri) and not products.add(info):
            folder, _, name = info.uri.rpartition("/")
            others[folder] = others.get(folder, NONE) + Counter([ending_of(name)])
        beside.add([info])
    _count_others(others, products, left_out)
    unseen = []
    for product in products.found():
        scene = _scene(product, given, preset, beside)
        if scene.problem and len(left_out.closed) > closed:
            unseen.append(scene.name)  # its results stay: nobody knows whether it lacks a file
        else:
            yield scene
    if unseen:
        left_out.add_unread(scenes_unseen(unseen))


def _count_others(others: Mapping[str, Counter[str]], products: Products, left_out: LeftOut) -> None:
    """What lies below folders and is of no product; in a product's own folder there is more than rasters."""
    own = products.folders()
    for folder, kinds in others.items():
        parts = folder.split("/")
        is_own = any("/".join(parts[:depth]) in own for depth in range(len(parts), 0, -1))
        left_out.add_others(folder, NONE if is_own else kinds)


def _add_archive(products: Products, info: FileInfo, preset: Preset, left_out: LeftOut) -> None:
    """The members of an archive, as if they lay in a folder of its name. Its own may say no product's."""
    before = len(products)
    problem = _unpacked(products, info)
    is_empty = not problem and len(products) == before
    is_named = names_product(preset, info.uri.rpartition("/")[2])
    if is_named and (problem or is_empty):
        products.refuse(info, problem or "holds no file of a product")
    elif problem:
        left_out.archives[info.uri] = problem
    else:
        left_out.add_archive(info.uri, is_empty=is_empty)


def _unpacked(products: Products, info: FileInfo) -> str:
    """Add an archive's members. Returns why it cannot be read; empty where it was."""
    if not Location.of(info.uri).is_local:
        return "is an archive in a bucket: those on local disks alone are read; unpack it"
    if not info.uri.lower().endswith((".zip", ".tar")):
        return "is compressed as a whole: unpack it, or make a .tar of it with gunzip"
    try:
        for name, member in archives.members(info.uri).items():
            uri = archives.member_uri(info.uri, name)
            found = FileInfo(uri=uri, size=member.size, version=member.version, modified=member.modified)
            products.add(found, archive=info.uri)
    except archives.DamagedError as e:
        return str(e)
    except OSError as e:
        return f"the storage does not give it: {e.strerror or e}"
    return ""


def _files(given: SceneSet, output: str, left_out: LeftOut) -> tuple[list[FileInfo], dict[str, Counter[str]]]:
    """What may be of a product, and what else there is: endings by folder."""
    if given.path.startswith(("http://", "https://")):
        msg = "a web server shows no folders; name the files in a STAC item or a manifest"
        raise ValueError(msg)
    patterns = [given.path]
    if listing.is_glob(given.path):
        patterns.append(f"{given.path.rstrip('/')}/**")
    found: dict[str, FileInfo] = {}
    others: dict[str, Counter[str]] = {}
    for pattern in patterns:
        selection = _Selection(given, output, left_out)
        infos = (info for some in walk(pattern, selection=selection, without=output) for info in some.infos())
        found |= {info.uri: info for info in infos if not selection.is_result(info.uri)}
        others |= {
            folder: kinds
            for folder, kinds in selection.others.items()
            if not selection.is_result(f"{folder}/")
        }
    return [found[uri] for uri in sorted(found)], others


def _scene(product: Product, given: SceneSet, preset: Preset, beside: Beside) -> SceneFiles:
    chosen = [product.best(part_of(product, asset, preset)) for asset in given.columns]
    pairs = zip(given.columns, chosen, strict=True)
    problems = [product.problem, *(_problem(product, asset, infos, preset) for asset, infos in pairs)]
    flags = flags_of(product, preset)
    mask = product.best(flags.file) if given.mask else []
    if given.mask:
        problems.append(_mask_problem(product, mask, flags, given.mask.flags))
    rasters = [infos[0] for infos in chosen if infos]
    metadata = _metadata(product, preset)
    if metadata is None and rasters:  # the input may name a part of the product: X.SAFE/GRANULE
        metadata = MetadataPlaces().of(rasters[0].uri)
    return made_scene(
        name=product.id,
        uri=rasters[0].uri if rasters else product.where,
        rasters=rasters,
        mask=mask[0] if mask else None,
        mask_bands=_mask_bands(flags, given.mask.flags) if given.mask else (),
        extra=[
            *(info for infos in chosen for info in infos[1:]),
            *([product.archive] if product.archive else []),
        ],
        finders=Finders(beside.of, lambda _: metadata),
        problem=next(filter(None, problems), ""),
    )


def _metadata(product: Product, preset: Preset) -> FileInfo | None:
    kinds = ("json", "xml", "txt") if preset == "landsat" else ("2A", "1C")
    return next((product.metadata[kind] for kind in kinds if kind in product.metadata), None)


def _problem(product: Product, asset: str, infos: list[FileInfo], preset: Preset) -> str:
    """What is wrong with a product's asset; empty: nothing."""
    part = part_of(product, asset, preset)
    if len(infos) > 1:
        return f"has several files for {asset}: {infos[0].uri} and {infos[1].uri}; remove one"
    if infos:
        return ""
    if not part:
        if preset == "sentinel2":
            return f"has no {asset}: Level 2A holds no B10"
        has = ", ".join(landsat_assets(product.id))
        return f"has no {asset}, its satellite or its level gives none; it has {has}"
    where = f"{product.id}_{part}.TIF" if preset == "landsat" else f"*_{part}*.jp2"
    return f"its file for {asset} is missing: there is no {where} in {product.where}"


def _mask_bands(flags: Flags, names: Sequence[str]) -> tuple[int, ...]:
    if flags.by != "bands":
        return ()
    return tuple(sorted({number for name in names for number in flags.numbers.get(name, ())}))


def _mask_problem(product: Product, infos: list[FileInfo], flags: Flags, names: Sequence[str]) -> str:
    unknown = [name for name in names if name not in flags.numbers]
    if unknown:
        return (
            f"is of Level 1C, which marks {', '.join(flags.numbers)} alone, and `mask` asks for "
            f"{', '.join(unknown)}: give Level 1C an input of its own, with a mask of these or without one"
        )
    if len(infos) > 1:
        return f"has several files for its mask: {infos[0].uri} and {infos[1].uri}; remove one"
    if infos:
        return ""
    if flags is LEVEL_1C_FLAGS and product.best(LEVEL_1C_VECTORS):
        return (
            f"marks clouds by outlines ({LEVEL_1C_VECTORS}.gml), as Level 1C did before baseline 04.00, and "
            f"these are not read: fetch it as Collection 1 has it, with {flags.file}.jp2, or give such "
            f"products an input of their own without `mask`"
        )
    return f"its file for the mask is missing: there is no {flags.file} in {product.where}"


def looked_for(given: SceneSet) -> str:
    """What a set of products looks for, in words; empty for other sets."""
    title = TITLES.get(given.kind)
    return f" (a product of {title}: {LOOKED_FOR[given.kind]})" if title else ""
