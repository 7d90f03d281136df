"""What PaddleSeg itself makes of some images; `python tests/paddleseg_reference.py FOLDER`.

Runs where paddleseg is installed. Writes exports of one network (`none`, `argmax`), and per case
`CASE.npz` with image (H, W, 3) RGB, ids (H, W) and scores (K, H, W) of `paddleseg.core.infer`, and ids
of the argmax export brought back by `reverse_transform`; `cases.yaml` has each case's transforms. Of
the cases in TILED the image is 2 x 3 square ones side by side, each predicted alone.
"""

import sys
from pathlib import Path

import numpy as np
import paddle
import yaml
from paddleseg import transforms
from paddleseg.core import infer
from paddleseg.cvlibs import manager
from paddleseg.deploy.export import WrappedModel
from paddleseg.models import PPLiteSeg
from paddleseg.models.backbones.stdcnet import STDCNet

CLASSES = 5

IMAGENET = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
DEFAULT = {"type": "Normalize"}

CASES = {
    "plain": ((160, 224), [DEFAULT]),
    "resize": ((131, 197), [{"type": "Resize", "target_size": [256, 160]}, IMAGENET]),
    "resize_down": ((300, 420), [{"type": "Resize", "target_size": [224, 192]}, IMAGENET]),
    "keep_ratio": (
        (131, 197),
        [{"type": "Resize", "target_size": [256, 256], "keep_ratio": True, "size_divisor": 32}, IMAGENET],
    ),
    "area": ((300, 420), [{"type": "Resize", "target_size": [192, 160], "interp": "AREA"}, DEFAULT]),
    "padding": (
        (150, 210),
        [{"type": "Padding", "target_size": [256, 192], "im_padding_value": 100}, IMAGENET],
    ),
    "padding_late": (
        (150, 210),
        [IMAGENET, {"type": "Padding", "target_size": [256, 192], "im_padding_value": 0.0}],
    ),
    "by_short": ((131, 197), [{"type": "ResizeByShort", "short_size": 192, "max_size": 256}, DEFAULT]),
    "by_long_padding": (
        (131, 197),
        [
            {"type": "ResizeByLong", "long_size": 256},
            {"type": "Padding", "target_size": [256, 256]},
            DEFAULT,
        ],
    ),
    "limit_long": ((300, 420), [{"type": "LimitLong", "max_long": 256}, DEFAULT]),
    "square": ((200, 200), [{"type": "Resize", "target_size": [256, 256]}, DEFAULT]),
}

TILE = 128

TILED = {
    "tiles_plain": [IMAGENET],
    "tiles_resize": [{"type": "Resize", "target_size": [192, 160]}, IMAGENET],
    "tiles_padding": [{"type": "Padding", "target_size": [192, 160], "im_padding_value": 90}, DEFAULT],
    "tiles_by_short": [{"type": "ResizeByShort", "short_size": 200}, DEFAULT],
}


class Levelled(paddle.nn.Layer):
    """A network of random weights whose scores are shifted and scaled so that every class occurs."""

    def __init__(self) -> None:
        super().__init__()
        backbone = STDCNet(base=16, layers=[2, 2, 2])
        self.network = PPLiteSeg(CLASSES, backbone, arm_out_chs=[16, 24, 32], seg_head_inter_chs=[16, 16, 16])
        self.shift = self.create_parameter([1, CLASSES, 1, 1])
        self.factor = self.create_parameter([1, CLASSES, 1, 1])
        self.eval()
        self.shift.set_value(paddle.zeros_like(self.shift))
        self.factor.set_value(paddle.ones_like(self.factor))

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        return [(self.network(x)[0] - self.shift) * self.factor]

    def level(self, x: paddle.Tensor) -> None:
        scores = self(x)[0]
        self.shift.set_value(scores.mean(axis=[0, 2, 3], keepdim=True))
        self.factor.set_value(1 / scores.std(axis=[0, 2, 3], keepdim=True))


def make_image(height: int, width: int, seed: int) -> np.ndarray:
    """Waves, discs and noise: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width]
    image = np.stack(
        [np.sin(rows / rng.uniform(5, 40)) * np.cos(cols / rng.uniform(5, 40)) for _ in range(3)], -1
    )
    for _ in range(12):
        row, col, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(5, 40)
        image[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] = rng.uniform(-1, 1, 3)
    return np.clip(127 + 100 * image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def prepared(image: np.ndarray, steps: list[dict]) -> tuple[paddle.Tensor, list]:
    chain = [manager.TRANSFORMS[s["type"]](**{k: v for k, v in s.items() if k != "type"}) for s in steps]
    data = transforms.Compose(chain)({"img": image[..., ::-1].astype("float32")})  # OpenCV reads BGR
    return paddle.to_tensor(data["img"][None]), data["trans_info"]


def predicted(network: Levelled, image: np.ndarray, steps: list[dict]) -> dict[str, np.ndarray]:
    """PaddleSeg's predict without test-time augmentation, and what its argmax export would give."""
    x, info = prepared(image, steps)
    ids, scores = infer.inference(network, x, trans_info=info)
    raw = paddle.argmax(network(x)[0], axis=1, keepdim=True, dtype="int32")
    back = infer.reverse_transform(raw, info, mode="nearest")
    return {"ids": ids[0, 0].numpy(), "scores": scores[0].numpy(), "nearest": back[0, 0].numpy()}


def export(network: paddle.nn.Layer, folder: Path) -> None:
    folder.mkdir(parents=True)
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32", name="x")]
    paddle.jit.save(paddle.jit.to_static(network, input_spec=spec), str(folder / "model"))


def main(folder: Path) -> None:
    paddle.seed(7)
    network = Levelled()
    with paddle.no_grad():
        network.level(prepared(make_image(256, 320, 99), [DEFAULT])[0])
        for seed, (name, (shape, steps)) in enumerate(CASES.items()):
            image = make_image(*shape, seed)
            np.savez(folder / f"{name}.npz", image=image, **predicted(network, image, steps))
        image = make_image(2 * TILE, 3 * TILE, 100)
        for name, steps in TILED.items():
            rows = []
            for row in np.split(image, 2):
                rows.append([predicted(network, tile, steps) for tile in np.split(row, 3, axis=1)])
            joined = {key: np.block([[tile[key] for tile in row] for row in rows]) for key in rows[0][0]}
            np.savez(folder / f"{name}.npz", image=image, **joined)
    transforms_of = {name: steps for name, (_, steps) in CASES.items()} | TILED
    (folder / "cases.yaml").write_text(yaml.safe_dump(transforms_of))
    export(WrappedModel(network, "argmax"), folder / "argmax")
    export(network, folder / "none")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
