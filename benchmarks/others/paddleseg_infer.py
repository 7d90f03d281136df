"""Photographs as PaddleSeg's deploy/python/infer.py segments them; runs in an interpreter that has PaddleSeg.

    python paddleseg_infer.py MODEL IMAGES OUTPUT THREADS [mkldnn]

infer.py is no part of the wheel. This does the same with the same libraries: one predictor for all images,
batches of 1, PaddleSeg's transforms of deploy.yaml, argmax (`--with_argmax`), a PNG with PaddleSeg's colours.
Its defaults are 10 threads and no oneDNN. Prints JSON: seconds after the first image.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from paddle.inference import Config, create_predictor
from paddleseg.cvlibs import manager
from paddleseg.transforms import Compose
from paddleseg.utils.visualize import get_pseudo_color_map


def load(model: Path, threads: int, *, mkldnn: bool):
    """The predictor, configured as infer.py's for a CPU, and the transforms."""
    deploy = yaml.safe_load((model / "deploy.yaml").read_text())["Deploy"]
    steps = [
        manager.TRANSFORMS[step["type"]](**{key: value for key, value in step.items() if key != "type"})
        for step in deploy["transforms"]
    ]
    program = next(path for suffix in ("json", "pdmodel") for path in model.glob(f"*.{suffix}"))
    config = Config(str(program), str(model / deploy["params"]))
    config.enable_memory_optim()
    config.switch_ir_optim(True)
    config.disable_gpu()
    if mkldnn:
        config.set_mkldnn_cache_capacity(10)
        config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(threads)
    if program.suffix == ".json":  # without it Paddle 3.2 refuses enable_memory_optim, and infer.py fails
        config.enable_new_ir(True)
        config.enable_new_executor()
    config.disable_glog_info()
    return create_predictor(config), Compose(steps)


def main(model: str, images: str, output: str, threads: str, mkldnn: str = "") -> dict:
    predictor, transforms = load(Path(model), int(threads), mkldnn=mkldnn == "mkldnn")
    given = predictor.get_input_handle(predictor.get_input_names()[0])
    answer = predictor.get_output_handle(predictor.get_output_names()[0])
    paths = sorted(Path(images).iterdir())
    for number, path in enumerate([paths[0], *paths]):
        if number == 1:
            began = time.perf_counter()
        batch = np.array([transforms({"img": str(path)})["img"]])
        given.reshape(batch.shape)
        given.copy_from_cpu(batch)
        predictor.run()
        (ids,) = np.argmax(answer.copy_to_cpu(), axis=1)
        get_pseudo_color_map(ids).save(str(Path(output, f"{path.stem}.png")))
    return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
