"""One tile through a network, in a process of its own: what it answers, or why it cannot be used.

What it showed is kept by content, beside the networks derived from the model.
"""

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Device, Offer, engine, telling_line
from batchseg.engines.graphs.cache import cache_key, cached_folder
from batchseg.engines.graphs.derive import OPENVINO_ALONE, prepare_network
from batchseg.engines.graphs.strides import stride_of
from batchseg.engines.paddle import gpu_name
from batchseg.errors import ModelError, StoppedError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.models import resize
from batchseg.models.package import EngineName, Layout, ModelFacts, ModelPackage, Network, OutputKind, Padding
from batchseg.predict.predictor import Preparation, load_predictor
from batchseg.system.json_text import parse_json
from batchseg.system.machine import cpu_class, has_gpu_nodes
from batchseg.system.processes import NotStartedError, ProcessDiedError, call_in_fresh_process

PROBE_TIMEOUT = 300.0
"""Seconds; the slowest network measured (DeepLabV3P, 1024 pixels, no oneDNN) takes 11 s a tile."""


class TileRefusedError(ModelError):
    """The network loads, and fails on a tile of this size and these bands, or answers one of another size."""


def probe(
    package: ModelPackage,
    *,
    channels: int | None,
    tile_size: int,
    device: Literal["auto", "cpu", "gpu"],
    engines: Sequence[EngineName] = (),
) -> tuple[ModelFacts, Device]:
    """Run one tile of noise through the bare network on its reference engine, in fp32.

    Args:
        package: the model.
        channels: number of bands that the job feeds; None: what the model says.
        tile_size: pixels per side.
        device: auto takes a GPU where one of the engines finds one.
        engines: those that may run the job; none: the reference engine.

    Returns:
        What the tile showed, and the device of the job. The reference runs there too if it can.

    Raises:
        ModelError: the model cannot be loaded, crashes, or is no segmentation network.
    """
    # Here, as a file that is opened for another size has a time limit of its own.
    network = prepare_network(
        package,
        engine=engine(reference_engine(package)),
        bake=None,
        precision="fp32",
        device="cpu",
        size_hw=_answer_hw(package, tile_size),
    )
    question = (package, network, channels, tile_size, device, tuple(engines))
    answer: tuple[ModelFacts, Device]
    try:
        answer = _alone(package, _probe, *question, True)
    except ModelError as e:
        if not isinstance(e.__cause__, ProcessDiedError):
            raise
        # A model that runs is not refused because its library crashes or hangs where its inside is looked at.
        answer = _alone(package, _probe, *question, False)
    return answer


def offers(name: EngineName, package: ModelPackage, device: Device) -> Sequence[Offer]:
    """What an engine offers here. Asking for GPUs imports its library, which is left to another process."""
    if package.format not in engine(name).formats and package.format == "openvino":
        return [
            dataclasses.replace(offer, reason=OPENVINO_ALONE) for offer in engine(name).offers(package, "cpu")
        ]
    if device == "cpu":
        return engine(name).offers(package, device)
    found: Sequence[Offer] = _alone(package, _offers, name, package, device)
    return found


def _offers(name: EngineName, package: ModelPackage, device: Device) -> Sequence[Offer]:
    silence_stdout()
    return list(engine(name).offers(package, device))


def try_out(recipe: Recipe) -> None:
    """Run one tile through the network as the job runs it: its engine, precision and baked graph.

    Raises:
        ModelError: it cannot be loaded, crashes or fails.
    """
    _alone(recipe.model, _try_out, recipe)


def _alone(package: ModelPackage, function: Any, *args: object) -> Any:
    try:
        return call_in_fresh_process(function, *args, timeout=PROBE_TIMEOUT)
    except NotStartedError as e:
        msg = f"the process that tries the model {e}"
        raise StoppedError(msg) from e
    except ProcessDiedError as e:
        weights = (
            f"; its weights ({package.params}) may be those of another network" if package.params else ""
        )
        msg = f"model: the process that tried one tile of {package.network} {e}{weights}"
        raise ModelError(msg) from e


def silence_stdout() -> None:
    """Paddle prints pass names to file descriptor 1."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _try_out(recipe: Recipe) -> None:
    silence_stdout()
    preparation = Preparation(recipe)
    batch = preparation.buffer(1)
    batch[:] = 0
    try:
        load_predictor(recipe).run(batch)
    except (ModelError, StoppedError):
        raise
    except Exception as e:  # engines raise RuntimeError, ValueError, MemoryError and their own
        msg = (
            f"model: {recipe.model.network} fails on {recipe.engine} in {recipe.precision}: "
            f"{telling_line(e)}; use another `engine` or `precision`"
        )
        raise ModelError(msg) from e


def _probe(
    package: ModelPackage,
    network: Network,
    channels: int | None,
    tile_size: int,
    device: str,
    engines: tuple[EngineName, ...],
    look_inside: bool,
) -> tuple[ModelFacts, Device]:
    silence_stdout()
    name = reference_engine(package)
    job_device = _device(device, engines or (name,), package)
    where: Device = "gpu" if job_device == "gpu" and _no_gpu(name, package) is None else "cpu"
    channels = _channels(package, channels)
    session = engine(name).load(network, precision="fp32", device=where, threads=1)
    noise = np.random.default_rng(0).random((channels, tile_size, tile_size), dtype=np.float32)
    batch = _batch(noise, package)
    try:
        output = session.run(batch)[0]
        # The second run is timed: the first one plans and compiles.
        started = time.perf_counter()
        session.run(batch)
        seconds = time.perf_counter() - started
    except Exception as e:  # engines raise RuntimeError, ValueError, MemoryError and their own
        msg = (
            f"model: {package.network} fails on one tile of {channels} bands and {tile_size} pixels: "
            f"{telling_line(e)}; check `bands` and `tile_size`"
        )
        raise TileRefusedError(msg) from e
    kind, count, layout = output_kind(output[:1], _answer_hw(package, tile_size), package)
    facts = ModelFacts(
        output=kind,
        output_layout=layout,
        class_count=count,
        channels=channels,
        cpu_class=cpu_class() if job_device == "cpu" else _gpu_class(name, where),
        engine=f"{name} {engine(name).version()}",
        device=where,
        seconds_per_tile=seconds / len(batch),
        stride=0,
    )
    if look_inside:
        height, _ = _answer_hw(package, tile_size)
        stride = stride_of(package, network, channels=channels, side=height)
        facts = dataclasses.replace(facts, stride=raster_stride(package, stride, tile_size))
    return facts, job_device


def raster_stride(package: ModelPackage, stride: int, tile_size: int) -> int:
    """A network's stride in pixels of the raster, where transforms resize a tile before.

    The smallest whole number that is a multiple of it: 32 of 512 pixels are 62.5 of a tile of 1000, and every
    125 pixels two cells end. 0: borders are added, or both sides scaled differently, and nothing lines up.
    """
    height, width = _answer_hw(package, tile_size)
    if (height, width) == (tile_size, tile_size):
        return stride
    if height != width or any(isinstance(step, Padding) for step in package.geometry):
        return 0
    return Fraction(stride * tile_size, height).numerator


def _device(asked: str, engines: Sequence[EngineName], package: ModelPackage) -> Device:
    if asked == "cpu":
        return "cpu"
    reasons = [_no_gpu(name, package) for name in engines]
    if None in reasons:
        return "gpu"
    if asked == "gpu":
        msg = f"device: gpu, but {'; '.join(dict.fromkeys(str(reason) for reason in reasons))}"
        raise ModelError(msg)
    return "cpu"


def _no_gpu(name: EngineName, package: ModelPackage) -> str | None:
    """Why an engine cannot run the model on a GPU here; None: it can."""
    reasons = [offer.reason for offer in engine(name).offers(package, "gpu")]
    return None if None in reasons else reasons[0]


def _gpu_class(name: str, where: Device) -> str:
    """What decides the last bits there; engines other than Paddle do not say which GPU it is."""
    return gpu_name() if name == "paddle" and where == "gpu" else "gpu"


def _channels(package: ModelPackage, asked: int | None) -> int:
    if package.bands and asked and package.bands != asked:
        msg = f"model: {package.network} takes {package.bands} channels, the job's `bands` names {asked}"
        raise ModelError(msg)
    return asked or package.bands or 3


def _batch(noise: NDArray[np.float32], package: ModelPackage) -> NDArray[Any]:
    """The tile in the network's layout and dtype, as often as a fixed batch wants it."""
    tile = resize.apply(package.geometry, noise)
    if package.dtype == "uint8":
        tile = tile * 255
    tile = np.moveaxis(tile, 0, -1) if package.layout == "NHWC" else tile
    return np.ascontiguousarray(np.repeat(tile[None], package.batch or 1, axis=0).astype(package.dtype))


def _answer_hw(package: ModelPackage, tile_size: int) -> tuple[int, int]:
    return resize.network_shape(package.geometry, (tile_size, tile_size))


def output_kind(
    output: NDArray[Any], size_hw: tuple[int, int], package: ModelPackage
) -> tuple[OutputKind, int | None, Layout]:
    """Kind, number of classes (None: ids do not tell), and where the scores' axis is."""
    shape = output.shape
    if output.dtype.kind in "iu" and shape in ((1, *size_hw), (1, 1, *size_hw)):
        return "classes", None, "NCHW"
    if output.dtype.kind == "f" and len(shape) == 3 and shape == (1, *size_hw):
        output = output[:, None]  # one band without an axis of its own
    if output.dtype.kind == "f" and output.ndim == 4:
        if output.shape[2:] == size_hw:
            return *_scores_kind(output, package), "NCHW"
        if output.shape[1:3] == size_hw:
            return *_scores_kind(np.moveaxis(output, -1, 1), package), "NHWC"
    height, width = size_hw
    msg = (
        f"model: {package.network} answers a tile of {height} x {width} with {output.dtype} of shape "
        f"{list(shape)}; expected class ids [1, H, W] or scores [1, K, H, W] of the tile's own size"
    )
    raise TileRefusedError(msg)


def _scores_kind(scores: NDArray[Any], package: ModelPackage) -> tuple[OutputKind, int | None]:
    """Of scores (1, K, H, W). A declared kind counts, as far as the tile does not contradict it."""
    count = int(scores.shape[1])
    if package.output == "values":
        if count == 1:
            return "values", None
        msg = (
            f"model: {package.network} gives {count} bands a pixel, and result: values is for one; leave it "
            f"out for scores of classes, or name another output (model: {{output_name: ...}})"
        )
        raise ModelError(msg)
    within = bool(np.all((scores >= 0) & (scores <= 1)))
    if count == 1:
        if within:
            return "sigmoid", 2
        msg = (
            f"model: {package.network} gives one band of scores outside 0..1; export it with its sigmoid, or "
            f"add result: values where its numbers are what you want"
        )
        raise ModelError(msg)
    likely = within and bool(np.allclose(scores.sum(axis=1), 1, atol=1e-2))
    if package.output == "probabilities" and not likely:
        msg = f"model: {package.network} is said to give probabilities, but they do not add up to 1"
        raise ModelError(msg)
    return ("probabilities" if likely and package.output != "logits" else "logits"), count


VERSION = 2
"""Of what a probe looks at: another number, and nothing kept before is used."""


FACTS_FILE = "facts.json"


def probed_once(
    package: ModelPackage,
    *,
    channels: int | None,
    tile_size: int,
    device: Literal["auto", "cpu", "gpu"],
    engines: Sequence[EngineName] = (),
) -> tuple[ModelFacts, Device]:
    """As `probe.probe`, from the cache of models where the same question was answered on such a machine.

    A probe is a new interpreter that imports the engine and loads the network: half of the CPU time until
    the first tile. Encrypted models leave nothing on a disk. With a GPU the answer may change with its
    driver, and is asked for each time.

    Raises:
        ModelError: the model cannot be loaded, crashes, or is no segmentation network. That is not kept.
        StoppedError: the cache's disk is full or failing.
    """

    def ask() -> tuple[ModelFacts, Device]:
        return probe(package, channels=channels, tile_size=tile_size, device=device, engines=engines)

    if package.encrypted or has_gpu_nodes():
        return ask()

    def make(folder: Path) -> None:
        facts, where = ask()
        document = {"facts": dataclasses.asdict(facts), "device": where}
        (folder / FACTS_FILE).write_text(json.dumps(document), encoding="utf-8")

    names = sorted({reference_engine(package), *engines})
    said = dataclasses.replace(package, path="", network="", params=None, conversion=None)
    key = cache_key(
        {
            "what": "facts",
            "version": VERSION,
            "model": dataclasses.asdict(said),
            "channels": channels,
            "tile_size": tile_size,
            "device": device,
            "engines": {name: engine(name).version() for name in names},
            "cpu_class": cpu_class(),
        }
    )
    kept = parse_json((cached_folder(key, make) / FACTS_FILE).read_bytes())
    return ModelFacts(**kept["facts"]), kept["device"]
