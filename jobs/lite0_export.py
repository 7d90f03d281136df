"""Export what a training script has left as PaddleSeg's tools do, for batchseg.

Usage, in an environment with paddlepaddle 3.2.2, paddleseg 2.8.0 and numpy 1:
    export/bin/python jobs/lite0_export.py landcover RUN models/landcover

RUN holds weights.npz, or best.npz while training goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lite0
import numpy as np
import paddle
import yaml
from lite0_stages import LANDCOVER, MAGNETIC_TILE
from numpy.typing import NDArray

NETWORKS = {"landcover": (5, LANDCOVER), "magnetic-tile": (6, MAGNETIC_TILE)}
"""Classes and channels of the decoder."""


def read_run(run: Path) -> dict[str, NDArray[Any]]:
    """The weights of a run; the temperature is 1 while it goes on."""
    path = run / "weights.npz"
    found = dict(np.load(path if path.exists() else run / "best.npz"))
    return {"temperature": np.ones(1, np.float32)} | found


def export(net: Any, output: Path) -> None:
    """Write model.json, model.pdiparams and deploy.yaml as PaddleSeg does with `--output_op none`."""
    net.eval()
    shape = [-1, 3, -1, -1]
    static = paddle.jit.to_static(net, input_spec=[paddle.static.InputSpec(shape, "float32", name="x")])
    paddle.jit.save(static, str(output / "model"))
    deploy = {
        "input_shape": shape,
        "model": "model.pdmodel",
        "output_dtype": "float32",
        "output_op": "none",
        "params": "model.pdiparams",
        "transforms": [{"mean": [0.5] * 3, "std": [0.5] * 3, "type": "Normalize"}],
    }
    (output / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))


def main() -> None:
    """Export the network that the command line names."""
    parser = argparse.ArgumentParser(description="Export a trained network for batchseg.")
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("run", type=Path, help="the folder that training wrote")
    parser.add_argument("output", type=Path, help="where model.json, model.pdiparams and deploy.yaml go")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    paddle.set_device("cpu")
    classes, widths = NETWORKS[args.network]
    net = lite0.Segmenter(classes, widths)
    lite0.load(net, read_run(args.run))
    export(net, args.output)
    print(f"exported to {args.output}")


if __name__ == "__main__":
    main()
