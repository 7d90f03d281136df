"""What a model is, whatever it came from: one typed description, and what a probe tile adds to it."""

from dataclasses import dataclass
from typing import Literal

PALETTE = (
    *(
        "#4e79a7",
        "#f28e2b",
        "#e15759",
        "#76b7b2",
        "#59a14f",
        "#edc948",
        "#b07aa1",
        "#ff9da7",
        "#9c755f",
        "#bab0ac",
    ),
    *(
        "#1f77b4",
        "#aec7e8",
        "#2ca02c",
        "#98df8a",
        "#d62728",
        "#9467bd",
        "#c5b0d5",
        "#8c564b",
        "#e377c2",
        "#17becf",
    ),
)
"""Colours of classes that the job file gives none, used in turn: Tableau 10, then Tableau 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize:
    """PaddleSeg's Normalize after scaling: `(scaled - mean) / std`, one value per band."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    name: str
    color: str
    """#rrggbb"""


EngineName = Literal["paddle", "paddle-tensorrt", "onnxruntime", "onnxruntime-tensorrt", "openvino"]


Precision = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model, and what its files do not say of it."""

    path: str
    """A folder, or an ONNX file."""
    layout: Literal["NCHW", "NHWC"] | None = None
    """Of the input; None: as its shape suggests."""
    output: Literal["logits", "probabilities", "sigmoid", "classes", "values"] | None = None
    """None: as the probe tile shows."""
    output_name: str | None = None
    """Of an ONNX graph's outputs; None: `anomaly_map` where several have names, else the first."""
    threshold: float | None = None
    """Of a sigmoid band; None: the package's, else 0.5."""
    size_divisor: int | None = None
    key_file: str | None = None
    """Of an encrypted model; None: the environment has the key."""


Format = Literal["pir", "pdmodel", "onnx", "openvino"]
"""pir: Paddle 3's .json. pdmodel: Paddle 2's program. Both with .pdiparams. openvino: an .xml with its .bin,
as its owner made it or quantised here (`engines.graphs.quantize`)."""

Layout = Literal["NCHW", "NHWC"]

LARGEST_AXIS = 2**24
"""Pixels, bands or images: a network that claims more on one axis cannot be fed."""

OutputKind = Literal["classes", "logits", "probabilities", "sigmoid", "values"]
"""classes: integer ids. logits, probabilities: K scores per pixel. sigmoid: one band of scores in 0..1.
values: one band of any numbers, which a job has to ask for."""

Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """PaddleSeg's Resize: to a size, or (`keep_ratio`) to the largest that fits into it."""

    target_hw: tuple[int, int]
    keep_ratio: bool = False
    size_divisor: int | None = None
    """Both sides are rounded up to a multiple of it."""
    interp: Interpolation = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeByShort:
    """The short side becomes `short_size`, the long side at most `max_size`."""

    short_size: int
    max_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeByLong:
    """The long side becomes `long_size`."""

    long_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLong:
    """A long side above `max_long` or below `min_long` is brought to it."""

    max_long: int | None = None
    min_long: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Rows below and columns to the right, up to a size."""

    target_hw: tuple[int, int]
    value: tuple[float, ...]
    """In units of 0..255 before normalisation, one per band or one for all."""


Geometry = Resize | ResizeByShort | ResizeByLong | LimitLong | Padding
"""A step that changes the number of pixels; undone on the mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a network's own file says of its input and its first output, without running it."""

    shape: tuple[int | None, int | None, int | None, int | None] | None = None
    """Of the input, in the network's layout; None inside: free. None: the file does not tell."""
    dtype: str | None = None
    output: OutputKind | None = None
    """By the operator that makes it; None: only a tile can tell."""
    quantized: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What somebody wrote about a network: in a file beside it, or in its metadata."""

    origin: Literal["paddleseg", "paddlex", "onnx", "baked", "bare"] = "bare"
    declares_transforms: bool = False
    geometry: tuple[Geometry, ...] = ()
    normalize: Normalize | None = None
    layout: Layout | None = None
    shape: tuple[int | None, int | None, int | None, int | None] | None = None
    """As in `Signature`."""
    dtype: str | None = None
    size_divisor: int = 1
    output: OutputKind | None = None
    confidence_output: bool = False
    classes: tuple[ClassInfo, ...] = ()
    threshold: float = 0.5
    model_name: str | None = None
    tile_size: int | None = None
    halo: int | None = None
    pixel_size: float | None = None
    notes: tuple[str, ...] = ()
    """What it asks for and does not get, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPackage:
    """A segmentation network as its owner ships it."""

    path: str
    """Folder, or ONNX file."""
    origin: Literal["paddleseg", "paddlex", "onnx", "baked", "bare"]
    """Who described it: deploy.yaml, inference.yml, ONNX metadata, `batchseg model bake`, nobody."""
    format: Format
    network: str
    params: str | None
    """None: an ONNX file holds its weights."""
    digest: str
    """sha256 of network and params, decrypted."""
    encrypted: bool = False
    key_file: str | None = None
    """Of an encrypted model; None: the environment has the key."""
    layout: Layout = "NCHW"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    """Of the network's input."""
    bands: int | None = None
    size_hw: tuple[int | None, int | None] = (None, None)
    """None: free."""
    batch: int | None = None
    size_divisor: int = 1
    """Both sides of the network's input must be multiples."""
    geometry: tuple[Geometry, ...] = ()
    """In order, before normalisation."""
    normalize: Normalize | None = None
    """Empty mean and std: PaddleSeg's default of 0.5 for every band."""
    declares_transforms: bool = False
    """Whether something says what pre-processing the model wants."""
    output: OutputKind | None = None
    """As declared; the probe tile verifies it."""
    output_name: str | None = None
    """Which of several outputs counts; None: the first."""
    confidence_output: bool = False
    """A second output holds uint8 confidences (`batchseg model bake`)."""
    classes: tuple[ClassInfo, ...] = ()
    threshold: float = 0.5
    """Of a sigmoid band: above it, class 1."""
    model_name: str | None = None
    tile_size: int | None = None
    """Pixels, as its owner advises; the job decides."""
    halo: int | None = None
    """Pixels per side, as its owner advises."""
    pixel_size: float | None = None
    """Metres on the ground of the pixels that it was trained on, as its owner says."""
    quantized: bool = False
    """It arrived with quantised weights or activations."""
    conversion: str | None = None
    """An ONNX file that its owner put beside a Paddle network."""
    limits: tuple[str, ...] = ()
    """What the export cannot do, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What one probe tile showed of a network, run plain on its reference engine in fp32."""

    output: OutputKind
    """classes: ids (N, H, W). logits, probabilities: (N, K, H, W). sigmoid: (N, 1, H, W) in 0..1. values:
    (N, 1, H, W) or (N, H, W), of any numbers."""
    output_layout: Layout = "NCHW"
    """NHWC: the scores' axis is the last."""
    class_count: int | None
    """None where the network gives values, or ids: the probe cannot know the highest one."""
    channels: int
    cpu_class: str
    """Instruction set that decides the last bits: masks of two classes are never mixed in one scene."""
    engine: str
    """Name and version."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where the reference ran."""
    seconds_per_tile: float
    stride: int | None = None
    """Pixels of the raster between two cells of the network's coarsest grid: halo and core must be multiples.
    0: it does not show. None: an earlier version did not look.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """What goes into the graph: with it the network takes pixels and gives ids."""

    pixels: Literal["uint8", "float32"]
    """uint8: raw pixels, cast and normalised in the graph. float32: prepared, in the bare layout."""
    mean: tuple[float, ...]
    """One per band; used with uint8 pixels, in units of 0..1."""
    std: tuple[float, ...]
    output: OutputKind
    """Of the bare network."""
    output_layout: Layout
    threshold: float
    confidence: bool
    """A second output: uint8 (N, H, W), 255 x probability of the winning class, rounded."""
    margin: int = 0
    """Pixels that are cut off the answer's sides before it is classified: a tile's halo."""
    layout: Layout = "NHWC"
    """Of uint8 pixels. NHWC is what other programs hold; the bare network's own is turned by nobody."""
    probabilities: bool = False
    """The last output: uint8 (N, K, H, W), 255 x probability of every class, rounded; of one band two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Files that one engine can load: the package's own, or derived from them and cached."""

    format: Format
    path: str
    params: str | None = None
    encrypted: bool = False
    key_file: str | None = None
    """Of an encrypted model; None: the environment has the key."""
    layout: Layout = "NCHW"
    """Of its input."""
    bands: int | None = None
    """None: not known before a run."""
    size_hw: tuple[int | None, int | None] = (None, None)
    """Of its input; None: free. A conversion may fix what the package leaves free."""
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    baked: bool = False
    """First output: ids (N, H, W), uint8, or int32 where the bare network gives ids."""
    confidence: bool = False
    """The second output is the confidence."""
    probabilities: bool = False
    """The last output is the probabilities of all classes."""
    output_name: str | None = None
    """The one output that is asked for; None: all, of which the first counts."""
    quantized: bool = False
