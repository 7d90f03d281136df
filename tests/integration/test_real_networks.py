"""Networks that somebody else trained or exported, beside the runtime that their owners use."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SHARED, read_mask, write_raster
from numpy.typing import NDArray
from photo_runs import items
from PIL import Image, ImageDraw, ImageFont
from runs import run

import batchseg
from batchseg.errors import ModelError
from batchseg.job.file import load_job

pytestmark = pytest.mark.slow

CSMASK = SHARED / "ukis-csmask"
NETWORKS = Path(os.environ.get("BATCHSEG_NETWORKS", "no networks"))
TORCH = os.environ.get("BATCHSEG_TORCH_PYTHON", "")

MEAN = np.array([0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216], np.float32)
STD = np.array([0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164], np.float32)


def kappa(found: NDArray[np.integer], right: NDArray[np.integer]) -> float:
    """Cohen's."""
    counts = np.zeros((5, 5))
    np.add.at(counts, (right.ravel(), found.ravel()), 1)
    total = counts.sum()
    chance = (counts.sum(axis=0) * counts.sum(axis=1)).sum() / total**2
    return float((np.trace(counts) / total - chance) / (1 - chance))


def csmask_tile(name: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Reflectance (512, 512, 6) and classes (512, 512)."""
    with np.load(CSMASK / f"{name}.npz") as archive:
        return archive["img"], archive["msk"][..., 0]


def job_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, models: Path) -> Path:
    """A job file of `configs`; what it reads lies in `folder / "in"`, and its results beside."""
    monkeypatch.setenv("ARCHIVE", str(folder / "in"))
    monkeypatch.setenv("MODELS", str(models))
    monkeypatch.setenv("RESULTS", str(folder))
    return REPOSITORY / "configs" / name


def session(path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.skipif(not CSMASK.is_dir(), reason="no ukis-csmask: set BATCHSEG_DATA")
@pytest.mark.parametrize(("name", "least"), [("sentinel2", 0.93), ("landsat5", 0.85)])
def test_csmask_is_as_right_as_its_owner_says(name, least, tmp_path: Path, monkeypatch) -> None:
    """By the command's own choices: trials, halo and tile."""
    pixels, right = csmask_tile(name)
    write_raster(tmp_path / "in" / "a.tif", np.moveaxis(pixels, -1, 0))
    job = job_of("csmask.yaml", tmp_path, monkeypatch, CSMASK)
    batchseg.run(load_job(job, ["resolution=any"]))
    found = read_mask(tmp_path / "csmask", "a.tif")
    assert kappa(found, right) >= least


@pytest.mark.skipif(not CSMASK.is_dir(), reason="no ukis-csmask: set BATCHSEG_DATA")
def test_csmask_with_the_halo_that_is_found_equals_the_whole_image_in_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchseg.engines.graphs.open_onnx import open_sides

    pixels, _ = csmask_tile("sentinel2")
    write_raster(tmp_path / "in" / "a.tif", np.moveaxis(pixels, -1, 0))
    open_sides(str(CSMASK / "model_6b.onnx"), "NHWC", tmp_path / "open.onnx", bands=6)
    whole = session(tmp_path / "open.onnx")
    halo = 96
    around = np.pad(pixels, ((halo, halo), (halo, halo), (0, 0)), mode="reflect")
    (scores,) = whole.run(None, {whole.get_inputs()[0].name: ((around - MEAN) / STD)[None]})
    expected = scores[0, halo:-halo, halo:-halo].argmax(axis=-1)
    job = job_of("csmask.yaml", tmp_path, monkeypatch, CSMASK)
    run(
        job,
        "resolution=any",
        f"halo={halo}",
        "engine=onnxruntime",
        "precision=fp32",
        f"output={tmp_path}/csmask",
    )
    found = read_mask(tmp_path / "csmask", "a.tif")
    assert np.mean(found != expected) < 1e-5  # ties that the last bits decide


@pytest.mark.skipif(not (NETWORKS / "csmask-1").is_dir(), reason="see jobs/networks.py")
def test_csmask_1_answers_tiles_as_onnx_runtime_does(tmp_path: Path, monkeypatch) -> None:
    """It pools over its tile: of one image of 256 pixels there is one answer."""
    pixels, _ = csmask_tile("sentinel2")
    tile = np.moveaxis(pixels[100:356, 50:306], -1, 0)
    write_raster(tmp_path / "in" / "a.tif", tile)
    job = job_of("csmask-1.yaml", tmp_path, monkeypatch, NETWORKS)
    owners = session(NETWORKS / "csmask-1" / "model_6b_l2a.onnx")
    settings = load_job(job).normalize
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (settings.mean, settings.std))
    (scores,) = owners.run(
        None, {owners.get_inputs()[0].name: ((tile - mean) / std)[None].astype(np.float32)}
    )
    run(
        job,
        "resolution=any",
        "halo=0",
        "tile_size=256",
        "engine=onnxruntime",
        "precision=fp32",
        f"output={tmp_path}/csmask-1",
    )
    found = read_mask(tmp_path / "csmask-1", "a.tif")
    assert len(np.unique(found)) > 1
    assert np.mean(found != scores[0].argmax(axis=0)) < 1e-4


ANSWER = """
import sys
import numpy, torch
network = torch.jit.load(sys.argv[1]).eval()
with torch.no_grad():
    scores = network(torch.from_numpy(numpy.load(sys.argv[2])))
numpy.save(sys.argv[3], scores.argmax(1)[0].numpy())
"""


@pytest.mark.skipif(not (NETWORKS / "cloudsen12").is_dir() or not TORCH, reason="see jobs/networks.py")
def test_cloudsen12_answers_as_in_torch(tmp_path: Path, monkeypatch) -> None:
    six, _ = csmask_tile("sentinel2")
    bands = np.moveaxis(six, -1, 0)[[0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5]]  # its twelve, by their neighbours
    raw = np.clip(np.rint(bands * 10_000), 0, 65_535).astype(np.uint16)
    write_raster(tmp_path / "in" / "a.tif", raw)
    np.save(tmp_path / "tile.npy", (raw.astype(np.float32) / 10_000)[None])
    script = tmp_path / "answer.py"
    script.write_text(ANSWER)
    paths = [NETWORKS / "cloudsen12.pt", tmp_path / "tile.npy", tmp_path / "answer.npy"]
    subprocess.run([TORCH, str(script), *map(str, paths)], check=True)
    job = job_of("cloudsen12.yaml", tmp_path, monkeypatch, NETWORKS)
    run(
        job,
        "resolution=any",
        "tile_size=512",
        "halo=0",
        "engine=onnxruntime",
        "precision=fp32",
        f"output={tmp_path}/cloudsen12",
    )
    found = read_mask(tmp_path / "cloudsen12", "a.tif")
    expected = np.load(tmp_path / "answer.npy")
    assert len(np.unique(expected)) > 1
    assert np.mean(found != expected) < 1e-4


EDGES = """
import sys
import h5py, numpy, torch
from torch.nn import functional as f

kept = {}
with h5py.File(sys.argv[1]) as file:
    file.visititems(lambda name, item: kept.update({name: item[()]}) if hasattr(item, "shape") else None)

def conv(x, layer):
    kernel = torch.from_numpy(kept[layer + "/vars/0"]).permute(3, 2, 0, 1)
    return f.conv2d(x, kernel, torch.from_numpy(kept[layer + "/vars/1"]), padding=kernel.shape[-1] // 2)

image = torch.from_numpy(numpy.load(sys.argv[2]))
x, sides = image, []
for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
    x = f.max_pool2d(x, 2, 2, ceil_mode=True) if block > 1 else x
    for number in range(depth):
        x = f.relu(conv(x, f"block{block}/layers/conv2d" + (f"_{number}" if number else "")))
    side = conv(x, f"dsn{block}")
    sides.append(f.interpolate(side, image.shape[-2:], mode="bilinear", align_corners=False))
numpy.save(sys.argv[3], torch.sigmoid(conv(torch.cat(sides, 1), "fuse"))[0, 0].numpy())
"""


@pytest.mark.skipif(not (NETWORKS / "hed.onnx").exists() or not TORCH, reason="see jobs/networks.py")
def test_hed_finds_the_edges_that_its_weights_give_in_torch(tmp_path: Path, monkeypatch) -> None:
    """TensorFlow, its owner's runtime, is not needed: the layers are written a second time."""
    six, _ = csmask_tile("sentinel2")
    rgb = np.clip(six[:320, :320, [2, 1, 0]] * 500, 0, 255).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(rgb).save(tmp_path / "in" / "a.png")
    mean = np.array([104.00699, 116.66877, 122.67892], np.float32)
    bgr = np.moveaxis(rgb[..., ::-1].astype(np.float32) - mean, -1, 0)[None]
    np.save(tmp_path / "image.npy", np.ascontiguousarray(bgr))
    (tmp_path / "edges.py").write_text(EDGES)
    paths = [NETWORKS / "hed.weights.h5", tmp_path / "image.npy", tmp_path / "answer.npy"]
    subprocess.run([TORCH, str(tmp_path / "edges.py"), *map(str, paths)], check=True)
    job = job_of("hed.yaml", tmp_path, monkeypatch, NETWORKS)
    run(
        job,
        f"inputs={tmp_path}/in/*.png",
        "tile_size=320",
        "halo=0",
        "engine=onnxruntime",
        "precision=fp32",
        f"output={tmp_path}/hed",
    )
    (path,) = (tmp_path / "hed" / "masks").rglob("a*.png")
    expected = np.load(tmp_path / "answer.npy") > 0.5
    assert 0.001 < expected.mean() < 0.9
    assert np.mean((np.asarray(Image.open(path)) == 1) != expected) < 1e-3


def text_scores(folder: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """PP-OCR's answer (H, W) to an image (3, H, W), by Paddle alone."""
    from paddle import inference

    config = inference.Config(str(folder / "inference.pdmodel"), str(folder / "inference.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.copy_from_cpu(x[None])
    predictor.run()
    scores: NDArray[np.float32] = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    return scores[0, 0]


@pytest.mark.skipif(not (NETWORKS / "ppocr-det").is_dir(), reason="see jobs/networks.py")
def test_ppocr_finds_the_text_that_it_finds_in_paddle(tmp_path: Path, monkeypatch) -> None:
    noise = np.random.default_rng(5).integers(215, 230, (320, 320, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    draw = ImageDraw.Draw(picture)
    for number, words in enumerate(("LOT 20261201", "batch 7 of 12", "inspected")):
        draw.text((40, 30 + 60 * number), words, fill=(20, 30, 90), font=ImageFont.load_default(32))
    (tmp_path / "in").mkdir()
    picture.save(tmp_path / "in" / "a.png")
    job = job_of("text.yaml", tmp_path, monkeypatch, NETWORKS)
    mean, std = load_job(job).normalize.mean, load_job(job).normalize.std
    bgr = np.asarray(picture)[..., ::-1].astype(np.float32) / 255
    x = ((bgr - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(2, 0, 1)
    run(
        job,
        f"inputs={tmp_path}/in/*.png",
        "tile_size=320",
        "halo=0",
        "engine=paddle",
        "precision=fp32",
        f"output={tmp_path}/text",
    )
    (path,) = (tmp_path / "text" / "masks").rglob("a*.png")
    found = np.asarray(Image.open(path)) == 1
    expected = text_scores(NETWORKS / "ppocr-det", np.ascontiguousarray(x)) > 0.3
    assert np.mean(found != expected) < 1e-4
    for number in range(3):
        assert found[30 + 60 * number : 75 + 60 * number, 40:200].any()
    assert not found[220:].any()


TILES = SHARED / "magnetic-tile-good"
SIDE = 256
NEEDS_ANOMALIB = pytest.mark.skipif(
    not (NETWORKS / "padim").is_dir() or not TILES.is_dir(), reason="see jobs/networks.py"
)


def tiles(*, first: int, count: int) -> NDArray[np.uint8]:
    """Good magnetic tiles that the networks were not fitted to, (N, SIDE, SIDE) of one grey band."""
    paths = sorted(TILES.glob("*.jpg"))[first : first + count]
    pictures = [Image.open(path).convert("L").resize((SIDE, SIDE)) for path in paths]
    return np.stack([np.asarray(picture) for picture in pictures])


def scratched(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = image.copy()
    found[96:120, 40:200] = np.where(np.arange(160) % 8 < 4, 255, 0)
    return found


def owners_answers(folder: Path, images: NDArray[np.uint8]) -> dict[str, NDArray]:
    """`anomaly_map` and `pred_mask`, (N, SIDE, SIDE), by ONNX Runtime or OpenVINO alone; one image at a time,
    as often as a fixed batch wants it."""
    if folder.name.startswith("onnx"):
        network = session(folder / "model.onnx")
        batch = network.get_inputs()[0].shape[0]
        names = ["anomaly_map", "pred_mask"]

        def answer(x):
            return network.run(names, {"input": x})
    else:
        openvino = pytest.importorskip("openvino")
        model = openvino.Core().read_model(str(folder / "model.xml"))
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        batch = model.inputs[0].partial_shape[0]
        batch = batch.get_length() if batch.is_static else None

        def answer(x):
            found = compiled(x)
            return [found["anomaly_map"], found["pred_mask"]]

    maps, masks = [], []
    for image in images:
        x = np.repeat(image[None, None], 3, axis=1).astype(np.float32) / 255
        one, mask = answer(np.repeat(x, batch if isinstance(batch, int) else 1, axis=0))
        maps.append(one[0].reshape(SIDE, SIDE))
        masks.append(mask[0].reshape(SIDE, SIDE))
    return {"anomaly_map": np.stack(maps), "pred_mask": np.stack(masks)}


def anomaly_job(folder: Path, network: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """configs/anomaly.yaml, and what it needs to run one network."""
    monkeypatch.setenv("GOOD", str(folder / "good"))
    job = job_of("anomaly.yaml", folder, monkeypatch, NETWORKS)
    return job, [f"model={NETWORKS / network}", "gate.budget=0", f"output={folder}/anomaly"]


def save_grey(folder: Path, images: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")


@NEEDS_ANOMALIB
@pytest.mark.parametrize("way", ["onnx", "onnx-fixed", "openvino", "openvino-fp16"])
@pytest.mark.parametrize("kind", ["padim", "patchcore"])
def test_anomalibs_exports_answer_photographs_as_in_their_runtime(
    tmp_path: Path, monkeypatch, kind: str, way: str
) -> None:
    """Maps as they are, and the verdicts that follow from them by what half of the good tiles reach."""
    good = tiles(first=200, count=6)
    seen = tiles(first=300, count=4)
    seen[1], seen[3] = scratched(seen[1]), scratched(seen[3])
    save_grey(tmp_path / "good", good)
    save_grey(tmp_path / "in", seen)
    job, keys = anomaly_job(tmp_path, f"{kind}/{way}", monkeypatch)
    assert run(job, *keys, "values.threshold.percentile=50").tally.done == 4
    expected = owners_answers(NETWORKS / kind / way, seen)["anomaly_map"]
    reached = owners_answers(NETWORKS / kind / way, good)["anomaly_map"]
    limit = np.percentile(reached.max(axis=(1, 2)), 50)
    rows = items(tmp_path / "anomaly")
    for number, answer in enumerate(expected):
        row = rows[f"{number}.png"]
        found = read_mask(tmp_path / "anomaly", f"{number}.png", "values")
        np.testing.assert_allclose(found, answer, atol=1e-4)
        assert row["value_max"] == pytest.approx(answer.max(), abs=1e-4)
        mask = np.asarray(Image.open(tmp_path / "anomaly" / row["mask"]))
        sure = np.abs(answer - limit) > 1e-4
        assert np.array_equal((mask == 1)[sure], (answer > limit)[sure])
    assert (expected.max(axis=(1, 2)) > limit).any()
    assert {name: row["verdict"] for name, row in rows.items()} == {
        f"{number}.png": "FAIL" if (answer > limit).sum() >= 20 else "PASS"
        for number, answer in enumerate(expected)
    }


@NEEDS_ANOMALIB
@pytest.mark.parametrize("network", ["padim/onnx", "padim/openvino-fp16", "patchcore/onnx"])
def test_anomalibs_exports_answer_each_tile_of_a_scene(tmp_path: Path, monkeypatch, network: str) -> None:
    """With anomalib's own threshold the mask is its `pred_mask`."""
    four = tiles(first=310, count=4)
    four[2] = scratched(four[2])
    scene = np.block([[four[0], four[1]], [four[2], four[3]]])
    write_raster(tmp_path / "in" / "a.tif", np.repeat(scene[None], 3, axis=0))
    job, keys = anomaly_job(tmp_path, network, monkeypatch)
    plain = tmp_path / "job.yaml"
    kept = [line for line in job.read_text().splitlines() if not line.startswith(("fit", "rules", "inputs"))]
    plain.write_text("\n".join([*kept, f"inputs: {tmp_path}/in/*.tif", "halo: 0"]))
    assert run(plain, *keys, "values={threshold: 0.5}").tally.done == 1
    expected = owners_answers(NETWORKS / network, four)
    found = read_mask(tmp_path / "anomaly", "a.tif", "values")
    mask = read_mask(tmp_path / "anomaly", "a.tif")
    for number in range(4):
        rows, cols = (slice(start * SIDE, (start + 1) * SIDE) for start in divmod(number, 2))
        np.testing.assert_allclose(found[rows, cols], expected["anomaly_map"][number], atol=1e-4)
        assert np.mean((mask[rows, cols] == 1) != expected["pred_mask"][number]) < 1e-3


@NEEDS_ANOMALIB
@pytest.mark.parametrize("way", ["onnx", "onnx-fixed", "openvino"])
def test_exports_that_look_at_the_middle_alone_are_refused(tmp_path: Path, monkeypatch, way: str) -> None:
    save_grey(tmp_path / "in", tiles(first=300, count=1))
    save_grey(tmp_path / "good", tiles(first=200, count=1))
    job, keys = anomaly_job(tmp_path, f"cropped/{way}", monkeypatch)
    with pytest.raises(ModelError, match="cuts 224 x 224 pixels out of each image"):
        run(job, *keys)
