"""Hostile input: thousands of damaged files, bombs, pointers at files and addresses, lists, job files."""

import io
import json
import os
import shutil
import socket
import struct
import threading
import time
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import yaml
from PIL import Image, ImageOps

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode
from faults import mutants
from faults.commands import Place, kill, said, start, wait_for
from faults.context import Context
from faults.mutants import Original
from faults.record import Trial
from faults.workload import make_models, place

MOST_SECONDS = 420
"""For one run over hundreds of hostile files, on a busy machine; what takes longer counts as hung."""

SOUND_SIDE = 6_000
"""Of scenes that unpack to very much and are sound: they are done."""

MOST_BYTES = 3 * 2**30
"""Of RssAnon that any process of a run may take: `max_photo_memory`, and what the process has besides."""

TAKEN = (".tif", ".tiff", ".png", ".jpg", ".bmp", ".gif", ".webp", ".jp2", ".j2k")
"""What a folder of photographs, and with the last two of scenes, is searched for."""

SCENES: dict[str, Any] = {
    "model": "one",
    "bands": [1],
    "scale": {"divide": 255},
    "regions": False,
    "tile_size": 512,
    "halo": 16,
    "workers": 2,
}
PHOTOGRAPHS: dict[str, Any] = {
    "model": "spots",
    "fit": "resize",
    "tile_size": 64,
    "scale": {"divide": 255},
    "classes": ["none", "red", "green", "blue"],
    "masks": "all",
    "workers": 2,
}


def trials(context: Context) -> Iterator[Trial]:
    make_models(context.work / "models")
    for family in mutants.FAMILIES:
        for kind in ("scenes", "photographs"):
            for seed, chance in context.seeds(f"{kind}: {family}", 1):
                files = list(mutants.variants(_originals(kind), family, 300, chance))
                yield _folder(context, f"{kind}: {family}", seed, files, kind)
    for kind in ("scenes", "photographs"):
        for seed, _ in context.seeds(f"{kind}: bombs and odd tags", 1):
            side = SOUND_SIDE if kind == "scenes" else 50_000  # which are too many for a photograph
            files = [*mutants.bombs(side), *mutants.odd_texts()]
            yield _folder(context, f"{kind}: bombs and odd tags", seed, files, kind)
        for seed, _ in context.seeds(f"{kind}: known bad files", 1):
            if known := _known_bad(kind):
                yield _folder(context, f"{kind}: known bad files", seed, known, kind)
    for seed, _ in context.seeds("pointers at files and at the network", 1):
        yield _pointers(context, seed)
    for fault, cases in (("names of files and rows of manifests", _lists), ("job files", _jobs)):
        for seed, _ in context.seeds(fault, 1):
            yield _commands(context, fault, seed, cases)


def _originals(kind: str) -> list[Original]:
    data = os.environ.get("BATCHSEG_DATA")
    found = mutants.originals(Path(data) if data else None)
    return [each for each in found if kind == "scenes" or not each.name.endswith(".jp2")]


def _known_bad(kind: str) -> list[Original]:
    data = os.environ.get("BATCHSEG_DATA", "")
    manifest = Path(data) / "bad" / "MANIFEST.tsv"
    if not data or not manifest.exists():
        return []
    names = [line.split("\t")[0] for line in manifest.read_text().splitlines()[1:]]
    taken = TAKEN if kind == "scenes" else TAKEN[:-2]
    paths = [manifest.parent / name for name in names if name.endswith(taken)]
    return [Original(path.name, path.read_bytes()) for path in paths]


# Runs, watched.


@dataclass
class Watched:
    """A run, and what it took."""

    code: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    """RssAnon of the largest process."""
    log: str = ""
    left: list[str] = field(default_factory=list)


def watch(here: Place, *arguments: object, seconds: float = MOST_SECONDS, **faults: object) -> Watched:
    """`batchseg ARGUMENTS`, its processes measured twice a second; ended by force after `seconds`."""
    before, began = len(said(here)), time.monotonic()
    process = start(here, *arguments, **faults)
    watched = Watched()
    while process.poll() is None:
        watched.peak_bytes = max([watched.peak_bytes, *map(_rss_anon, here.processes())])
        if time.monotonic() - began > seconds:
            kill(here.processes())
        time.sleep(0.5 if time.monotonic() - began > 2 else 0.05)
    watched.code, watched.seconds = process.returncode, time.monotonic() - began
    watched.log = said(here)[before:]
    wait_for(lambda: not here.processes(), 10)
    watched.left = [str(pid) for pid in here.processes()] + here.left_files()
    return watched


def _rss_anon(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def broken_promises(watched: Watched, code: int) -> list[str]:
    """What no run may do, whatever its input."""
    wrong = (
        [] if watched.code == code else [f"exit code {watched.code}, expected {code}: {watched.log[-600:]}"]
    )
    if "Traceback" in watched.log:
        wrong.append(f"a traceback: {watched.log[watched.log.index('Traceback') :][:800]}")
    if watched.peak_bytes > MOST_BYTES:
        wrong.append(f"a process took {watched.peak_bytes / 2**20:.0f} MiB")
    return wrong


# A folder of hostile files among sound ones.


def _folder(
    context: Context, fault: str, seed: int, files: list[Original], kind: str, executor: str = "ray"
) -> Trial:
    name = f"{fault}-{seed}".replace(" ", "-").replace(":", "")
    folder = context.work / "hostile" / name
    shutil.rmtree(folder, ignore_errors=True)
    sound = write_sound(folder / "in", kind)
    for file in files:
        (folder / "in" / file.name).write_bytes(file.data)
    job = write_job(context, folder, kind, stop_after=1_000_000, executor=executor)
    alone = write_job(context, folder, kind, "alone", inputs=str(folder / "in" / "sound*"), executor="inline")
    with place() as here:
        expected = watch(here, "run", alone)
        run = watch(here, "run", job)
        again = watch(here, "run", job)
    wrong = [*broken_promises(expected, 0), *broken_promises(run, 3), *broken_promises(again, 0)]
    rows = read_rows(folder / "out")
    wrong += _odd_rows(rows, {file.name for file in files}, sound)
    identical = sound_masks(folder / "out") == sound_masks(folder / "alone") != {}
    refused = sum(row["status"] != "done" for row in rows.values())
    shutil.rmtree(folder, ignore_errors=not wrong)
    return Trial(
        section="hostile",
        fault=fault,
        seed=seed,
        times=len(files),
        runs=2,
        ended_right=(run.code == 3) + (again.code == 0),
        identical=identical,
        cost_s=run.seconds,
        cost=f"the run; at most {run.peak_bytes / 2**20:.0f} MiB in a process",
        left=(*run.left, *again.left),
        found="; ".join(wrong)[:2000],
        note=f"{refused} refused, {len(files) + len(sound) - refused} done",
    )


def write_sound(folder: Path, kind: str) -> set[str]:
    """Neighbours that must not suffer."""
    folder.mkdir(parents=True)
    names = set()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(1, 255, (60 + number, 80, 3), dtype=np.uint8)
        names.add(name := f"sound-{number}.{'tif' if kind == 'scenes' else 'png'}")
        if kind == "photographs":
            Image.fromarray(pixels).save(folder / name)
            continue
        profile: dict[str, Any] = {"driver": "GTiff", "height": 60 + number, "width": 80, "count": 1}
        with rasterio.open(folder / name, "w", dtype="uint8", crs="EPSG:32633", **profile) as dataset:
            dataset.write(pixels[:, :, 0], 1)
    return names


def write_job(context: Context, folder: Path, kind: str, name: str = "out", **keys: Any) -> Path:
    values = SCENES if kind == "scenes" else PHOTOGRAPHS
    values = (
        {"gate": {"budget": 0}} | values | {"inputs": str(folder / "in"), "output": str(folder / name)} | keys
    )
    values["model"] = str(context.work / "models" / values["model"])
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def read_rows(output: Path) -> dict[str, dict[str, Any]]:
    path = output / "items" / "items.parquet"
    rows = pq.read_table(path).to_pylist() if path.exists() else []
    return {row["source_id"]: row for row in rows}


def sound_masks(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "masks").glob("sound*"))}


def _odd_rows(rows: dict[str, dict[str, Any]], hostile: set[str], sound: set[str]) -> list[str]:
    """Each file is done or quarantined with a reason; nobody's neighbour is."""
    wrong = [f"no row for {name}" for name in sorted((hostile | sound) - set(rows))[:3]]
    wrong += [
        f"{n}: {rows[n]['status']}: {rows[n]['error']}"
        for n in sorted(sound & set(rows))
        if rows[n]["status"] != "done"
    ]
    for name in sorted(hostile & set(rows)):
        row = rows[name]
        if row["status"] not in ("done", "quarantined") or (
            row["status"] != "done" and len(row["error"] or "") < 10
        ):
            wrong.append(f"{name}: {row['status']}: {row['error']}")
    return wrong[:5]


# Pointers: VRTs, services, sidecars, connection strings.


@contextmanager
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what was sent to it: nothing may be."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                heard.append(connection.recv(300))
                connection.sendall(
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield server.getsockname()[1], heard
    finally:
        server.close()


def vrt(source: str, band: str = "") -> str:
    """One band that is another file's first, or what `band` says."""
    name = f"<SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand>"
    kind = "VRTDerivedRasterBand" if "PixelFunction" in band else "VRTRawRasterBand"
    said = f' subClass="{kind}"' if band else ""
    return (
        f'<VRTDataset rasterXSize="40" rasterYSize="30"><VRTRasterBand dataType="Byte" band="1"{said}>'
        f"{band or f'<SimpleSource>{name}</SimpleSource>'}</VRTRasterBand></VRTDataset>"
    )


def pointers(folder: Path, port: int) -> set[str]:
    """Files that point elsewhere, and sidecars that do; names of those that must be refused."""
    url = f"/vsicurl/http://127.0.0.1:{port}/x.tif"
    raw = (
        '<SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>40</LineOffset>"
    )
    python = (
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode>open('{folder}/pwned', 'w')</PixelFunctionCode>"
    )
    warped = (
        '<VRTDataset rasterXSize="40" rasterYSize="30" subClass="VRTWarpedDataset"><GDALWarpOptions>'
        f"<SourceDataset>{url}</SourceDataset></GDALWarpOptions></VRTDataset>"
    )
    wms = (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:{port}/x</ServerUrl></Service>'
        "<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>1</LowerRightX>"
        "<LowerRightY>-1</LowerRightY><SizeX>40</SizeX><SizeY>30</SizeY></DataWindow>"
        "<BandsCount>1</BandsCount></GDAL_WMS>"
    )
    mrf = (
        f"<MRF_META><CachedSource><Source>{url}</Source></CachedSource>"
        "<Raster><Size x='40' y='30'/></Raster></MRF_META>"
    )
    texts = {
        "passwd.vrt": vrt("", raw),
        "passwd.tif": vrt("", raw),
        "network.vrt": vrt(url),
        "network.tif": "\n<!-- no VRT -->\n" + vrt(url),
        "xml.tif": '<?xml version="1.0"?>' + vrt(f"http://127.0.0.1:{port}/y.tif"),
        "member.vrt": vrt(f"http://127.0.0.1:{port}/member.tif"),
        "python.vrt": vrt("", python),
        "warped.vrt": warped,
        "entities.vrt": mutants.BILLION + vrt("&j;"),
        "wms.tif": wms,
        "wms.xml.tif": wms,
        "mrf.tif": mrf,
        "service.tif": f"http://127.0.0.1:{port}/z.tif",
        "archive.tif": "",
    }
    for name, content in texts.items():
        (folder / name).write_text(content)
    with zipfile.ZipFile(folder / "archive.tif", "w") as archive:
        archive.writestr("../../../tmp/pwned.tif", mutants.tiff(mutants.plain_tags(), tail=bytes(64)))
    item = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="{}">{}</MDI></Metadata></PAMDataset>'
    beside = {
        "long.tfw": "9" * 1_000_000,
        "crs.tif.aux.xml": f"<PAMDataset><SRS>http://127.0.0.1:{port}/crs</SRS></PAMDataset>",
        "mask.tif.msk": vrt(url),
        "overview.tif.ovr": vrt(url),
        "service-beside.tif.ovr": wms,
        "passwd-beside.tif.msk": vrt("", raw),
        "named.tif.aux.xml": item.format("OVERVIEW_FILE", url),
        "named-mask.tif.aux.xml": item.format("MASK_OVERVIEW_FILE", url),
        "large.tif.aux.xml": "<PAMDataset>" + " " * 20_000_000,
    }
    harmless = {
        "bomb.tif.aux.xml": mutants.BILLION + "<PAMDataset><SRS>&j;&file;</SRS></PAMDataset>",
        "deep.tif.aux.xml": "<a>" * 100_000,
        "place.tfw": "nan\n1e999\nx\n",
    }
    for name, content in (beside | harmless).items():
        image = folder / (name.split(".")[0] + ".tif")
        with rasterio.open(
            image, "w", driver="GTiff", height=30, width=40, count=1, dtype="uint8"
        ) as dataset:
            dataset.write(np.full((1, 30, 40), 7, np.uint8))
        (folder / name).write_text(content)
    with rasterio.open(
        folder / "own.tif", "w", driver="GTiff", height=30, width=40, count=1, dtype="uint8"
    ) as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=url)
        dataset.write(np.full((1, 30, 40), 7, np.uint8))
    return {*texts, *(f"{name.split('.')[0]}.tif" for name in beside), "own.tif"}


def _pointers(context: Context, seed: int, executor: str = "inline") -> Trial:
    folder = context.work / "hostile" / "pointers"
    shutil.rmtree(folder, ignore_errors=True)
    sound = write_sound(folder / "in", "scenes")
    with listener() as (port, heard), place() as here:
        refused = pointers(folder / "in", port)
        run = watch(here, "run", write_job(context, folder, "scenes", executor=executor))
        opened = {name for name, row in read_rows(folder / "out").items() if row["status"] == "done"}
        again = watch(here, "run", write_job(context, folder, "scenes", executor=executor, allow_vrt=True))
        rows = read_rows(folder / "out")
    wrong = [*broken_promises(run, 3), *(f"asked the network for {what[:80]!r}" for what in heard)]
    wrong += [f"{again.code} with allow_vrt"] * (again.code not in (0, 3))
    wrong += [f"{name} was not refused" for name in sorted(refused & opened)]
    wrong += [f"{name}: {rows.get(name)}" for name in sound if rows.get(name, {}).get("status") != "done"]
    wrong += ["a pixel function ran"] * (folder / "in" / "pwned").exists()
    return Trial(
        section="hostile",
        fault="pointers at files and at the network",
        seed=seed,
        times=len(list((folder / "in").iterdir())) - len(sound),
        runs=2,
        ended_right=(run.code == 3) + (again.code in (0, 3)),
        cost_s=run.seconds,
        cost=f"the run; at most {run.peak_bytes / 2**20:.0f} MiB in a process",
        left=(*run.left, *again.left),
        found="; ".join(wrong)[:2000],
        note=f"{len(heard)} connections to the network",
    )


# Lists and job files: each case is one command.

Case = tuple[str, int, Callable[[Path], dict[str, Any] | str]]
"""What it is, the exit code, and a function that writes it below a folder: keys of a job, or a job's text."""


def _commands(context: Context, fault: str, seed: int, cases: Callable[[], list[Case]]) -> Trial:
    wrong: list[str] = []
    right, slowest, largest, left = 0, 0.0, 0, []
    for number, (what, code, make) in enumerate(cases()):
        folder = context.work / "hostile" / f"case-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "in").mkdir(parents=True)
        job = _case_job(context, folder, make(folder))
        with place() as here:
            run = watch(here, "run", job, seconds=120)
        bad = broken_promises(run, code)
        if code in (0, 3) and not sound_masks(folder / "out"):
            bad.append("the sound neighbour has no mask")
        strays = [
            p for p in folder.iterdir() if p.name not in ("in", "out", "job.yaml", "out.yaml", "beside")
        ]
        bad += [f"left {path} outside of the output" for path in strays]
        wrong += [f"{what}: {each}" for each in bad]
        right += run.code == code
        slowest, largest = max(slowest, run.seconds), max(largest, run.peak_bytes)
        left += run.left
        shutil.rmtree(folder, ignore_errors=True)
    return Trial(
        section="hostile",
        fault=fault,
        seed=seed,
        times=len(cases()),
        runs=len(cases()),
        ended_right=right,
        cost_s=slowest,
        cost=f"the slowest run; at most {largest / 2**20:.0f} MiB in a process",
        left=tuple(left),
        found="; ".join(wrong)[:4000],
    )


def _case_job(context: Context, folder: Path, made: dict[str, Any] | str) -> Path:
    if isinstance(made, str):
        path = folder / "job.yaml"
        path.write_text(made.replace("MODELS", str(context.work / "models")))
        return path
    kind = made.pop("kind", "scenes")
    return write_job(context, folder, kind, **({"executor": "inline", "stop_after": 1000} | made))


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(path, "TIFF" if path.suffix != ".png" else "PNG")
    return path


STRANGE_ROWS = (
    "<VRTDataset rasterXSize='1' rasterYSize='1'/>",
    "/vsicurl/http://127.0.0.1:9/a.tif",
    "/vsizip//etc/hosts.zip/a.tif",
    "/vsizip/{/etc/a.zip}/../b.tif",
    "/vsistdin/",
    "/vsisubfile/0_100,/etc/passwd",
    "WMS:http://127.0.0.1:9/?layers=x",
    "GTIFF_DIR:1:sound-0.tif",
    "zip://a.tif::http://127.0.0.1:9/a.zip",
    "simplecache::http://127.0.0.1:9/a.tif",
    "github://o:r@main/a.tif",
    "http://",
    "../../../../../../etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "n" * 300 + ".tif",
    "a\tb\x07.tif",
    "~/x.tif",
    "-rf.tif",
)


def _strange_manifest(kind: str, suffix: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        sound = _image(folder / "in" / ("sound-0.png" if kind == "photographs" else "sound-0.tif")).name
        rows = [*STRANGE_ROWS, sound]
        path = folder / "in" / f"list{suffix}"
        if suffix == ".txt":
            path.write_text("\n".join(rows))
        elif suffix == ".csv":
            path.write_text("uri\n" + "".join('"' + row.replace('"', '""') + '"\n' for row in rows))
        else:
            pq.write_table(pa.table({"uri": rows}), path)
        return {"inputs": str(path), "kind": kind}

    return make


def _manifest(name: str, content: bytes, kind: str = "scenes") -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        _image(folder / "in" / "sound-0.tif")
        path = folder / "in" / name
        path.write_bytes(content)
        return {"inputs": str(path), "kind": kind}

    return make


def _parquet_bomb(folder: Path) -> dict[str, Any]:
    """Half a gigabyte of paths in some kB."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5_000, np.int32)), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"uri": texts}), folder / "in" / "list.parquet", compression="zstd")
    return {"inputs": str(folder / "in" / "list.parquet"), "kind": "photographs"}


def _folder_as_manifest(folder: Path) -> dict[str, Any]:
    (folder / "in" / "list.csv").mkdir()
    return {"inputs": str(folder / "in" / "list.csv")}


def _odd_names(kind: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        suffix = ".png" if kind == "photographs" else ".tif"
        names = [
            "sound-0",
            "A",
            "a",
            "caf\u00e9",
            unicodedata.normalize("NFD", "caf\u00e9"),
            "new\nline",
            "tab\t",
            "..",
            "...",
            "-rf",
        ]
        names += [
            "WMS:x",
            "GTIFF_DIR:1:x",
            "%s%n",
            "a b",
            "'quote\"",
            "$(id)",
            "\u202egnp",
            "n" * 251,
            "n" * 231,
            "\x1b[31mred",
            "back\\slash",
        ]
        for name in names:
            _image(folder / "in" / f"{name}{suffix}")
        with (folder / "in" / f"sound-0{suffix}").open("rb") as file:
            Path(os.fsdecode(os.fsencode(folder / "in") + b"/\xff\xfe" + suffix.encode())).write_bytes(
                file.read()
            )
        return {"kind": kind}

    return make


def _scene_names(folder: Path) -> dict[str, Any]:
    names = ["sound-0", "../../outside", "/absolute", "a\0b", "..", "n" * 200, "a/../../b"]
    rows = [{"id": name, "red": _image(folder / "in" / f"{n}.tif").name} for n, name in enumerate(names)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "in" / "scenes.parquet")
    return {"inputs": {"manifest": str(folder / "in" / "scenes.parquet"), "columns": ["red"], "id": "id"}}


def _stac(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        _image(folder / "in" / "sound-0.tif")
        hrefs = ["sound-0.tif", *STRANGE_ROWS, "a\0b.tif", "file:///etc/passwd"]
        names = ["sound-0", *(f"item-{n}" for n in range(len(hrefs) - 1))]
        items = [
            {"type": "Feature", "id": name, "assets": {"red": {"href": href}}, "properties": {}}
            for name, href in zip(names, hrefs, strict=True)
        ]
        document = change({"type": "FeatureCollection", "features": items})
        path = folder / "in" / "items.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return {"inputs": {"stac": str(path), "assets": ["red"]}}

    return make


def _area(name: str, content: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        _image(folder / "in" / "sound-0.tif")
        (folder / "beside").mkdir()
        (folder / "beside" / name).write_text(content)
        return {"aoi": str(folder / "beside" / name)}

    return make


def _lists() -> list[Case]:
    ogr_vrt = (
        '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/http://127.0.0.1:9/a.gpkg'
        "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    square = '{"type": "Polygon", "coordinates": [[[0, 0], [1e308, 0], [1, 1e309], [0, 0]]]}'
    return [
        *(
            (f"strange rows in a {suffix} of {kind}", 3, _strange_manifest(kind, suffix))
            for kind in ("scenes", "photographs")
            for suffix in (".txt", ".csv", ".parquet")
        ),
        *((f"odd names of {kind}", 3, _odd_names(kind)) for kind in ("scenes", "photographs")),
        ("scene names that leave the output", 3, _scene_names),
        ("a manifest without its column", 2, _manifest("list.csv", b"path\na.tif\n")),
        ("ragged rows", 3, _manifest("list.csv", b"uri,b\nsound-0.tif\na.tif,1,2,3\n")),
        (
            "ragged rows, photographs",
            3,
            _manifest("list.csv", b"uri,b\nsound-0.tif\na.tif,1,2,3\n", "photographs"),
        ),
        ("embedded NULs", 3, _manifest("list.txt", b"sound-0.tif\na\0b.tif\n")),
        ("embedded NULs, photographs", 3, _manifest("list.txt", b"sound-0.tif\na\0b.tif\n", "photographs")),
        ("one line of 100 MB", 2, _manifest("list.txt", b"sound-0.tif\n" + b"a" * 100_000_000)),
        (
            "one line of 100 MB, photographs",
            2,
            _manifest("list.txt", b"sound-0.tif\n" + b"a" * 100_000_000, "photographs"),
        ),
        ("one cell of 100 MB", 2, _manifest("list.csv", b"uri\n" + b"a" * 100_000_000)),
        ("not UTF-8", 3, _manifest("list.csv", b"uri\nsound-0.tif\n\xff\xfe\xfa.tif\n")),
        (
            "not UTF-8, photographs",
            3,
            _manifest("list.csv", b"uri\nsound-0.tif\n\xff\xfe\xfa.tif\n", "photographs"),
        ),
        ("no Parquet", 2, _manifest("list.parquet", b"PAR1" + bytes(1000) + b"PAR1")),
        (
            "no Parquet, photographs",
            2,
            _manifest("list.parquet", b"PAR1" + bytes(1000) + b"PAR1", "photographs"),
        ),
        ("a Parquet bomb", 2, _parquet_bomb),
        ("a folder called list.csv", 2, _folder_as_manifest),
        ("STAC with hostile hrefs", 3, _stac(lambda document: document)),
        ("STAC that is nested deeply", 2, _stac(lambda _: "[" * 200_000)),
        ("STAC of wrong types", 2, _stac(lambda _: {"type": "FeatureCollection", "features": [7]})),
        ("an area that points at the network", 2, _area("a.vrt", ogr_vrt)),
        ("an area of infinite coordinates", 2, _area("a.geojson", square)),
        ("an area that is nested deeply", 2, _area("a.geojson", '{"a":' * 100_000)),
        ("an area of nothing", 2, _area("a.gpkg", "")),
    ]


def _jobs() -> list[Case]:
    plain = "inputs: in\nmodel: MODELS/one\noutput: out\n"
    laughs = "a0: &a0 [ha, ha]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    merged = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    texts = {
        "a Python object": plain + "bands: !!python/object/apply:os.system ['touch pwned']\n",
        "a Python name": plain + "bands: !!python/name:os.system\n",
        "aliases of aliases": plain + laughs,
        "merges of merges": plain + merged,
        "an alias of itself": plain + "bands: &a [*a]\n",
        "lists in lists": plain + "bands: " + "[" * 100_000 + "]" * 100_000,
        "maps in maps": plain + "bands: " + "{a: " * 5_000 + "1" + "}" * 5_000,
        "50 MB": plain + "# " + "x" * 50_000_000,
        "900 kB of numbers": plain + "bands: [" + "1, " * 300_000 + "]",
        "keys that are there twice": plain + "halo: 3\nhalo: 4\n",
        "a key that is a list": plain + "? [1, 2]\n: 3\n",
        "NUL": plain + "halo: \0\n",
        "two documents": plain + "---\n" + plain,
        "a scalar": "just words",
        "nothing": "",
        "an absurd number": plain + "tile_size: " + "9" * 10_000 + "\n",
        "a date as output": plain.replace("output: out", "output: 2026-01-01"),
    }
    return [(what, 2, lambda _, content=content: content) for what, content in texts.items()]


# What batchseg's readers make of a file, against another reader.


def opinions(files: list[Original]) -> list[str]:
    """Where batchseg gives pixels, and they are not those of a reader of another library.

    Whatever it raises but SourceError is a defect, and goes through.
    """
    wrong = []
    for file in files:
        try:
            picture = decode(file.data, file.name)
        except SourceError:
            continue
        other = _by_another(file)
        if other is not None and not _agree(picture.pixels, other):
            wrong.append(f"{file.name}: other pixels than another reader's")
    return wrong


def _agree(ours: Any, theirs: Any) -> bool:
    return ours.shape != theirs.shape or ours.dtype != theirs.dtype or bool(np.array_equal(ours, theirs))


def _by_another(file: Original) -> Any:
    """Pixels as Pillow (JPEG) or GDAL (PNG) strictly read them; None where they do not, or are no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if file.data[:2] == b"\xff\xd8":
                image: Any = ImageOps.exif_transpose(Image.open(io.BytesIO(file.data)))
                return np.asarray(image) if image.mode in ("L", "RGB") else None
            if file.data[:4] == b"\x89PNG" and file.data[24:26] == b"\x08\x02":
                with rasterio.MemoryFile(file.data) as memory, memory.open(driver="PNG") as dataset:
                    return np.moveaxis(dataset.read(), 0, 2)
        except (OSError, ValueError, SyntaxError, struct.error, rasterio.errors.RasterioError):
            return None
    return None
