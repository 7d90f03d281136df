"""PaddleSeg's own sliding predict of one image; runs in an interpreter that has PaddleSeg.

    python paddleseg_predict.py IMAGE.png FOLDER

It calls `paddleseg.core.predict` as tools/predict.py does with `--is_slide --crop_size 512 512 --stride 384
384`, on PP-LiteSeg-STDC1 of 19 classes with random weights, and prints JSON: seconds of the call less the
loading of weights, and of the sliding inference in it. OMP_NUM_THREADS says how many threads compute;
Paddle makes it 1 where it is not set.
"""

import json
import sys
import time
from pathlib import Path

import paddle
from paddleseg.core import infer, predict
from paddleseg.models import PPLiteSeg
from paddleseg.models.backbones import STDC1
from paddleseg.transforms import Compose, Normalize
from paddleseg.utils import utils


class Watched:
    """A function and the seconds that it took so far."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments, **options):
        began = time.perf_counter()
        answer = self.function(*arguments, **options)
        self.seconds += time.perf_counter() - began
        return answer


def main(image: str, folder: str) -> dict:
    paddle.seed(1)
    network = PPLiteSeg(19, STDC1(), arm_out_chs=[32, 64, 128], seg_head_inter_chs=[32, 64, 64])
    network.eval()
    weights = Path(folder, "random.pdparams")
    paddle.save(network.state_dict(), str(weights))
    with paddle.no_grad():
        network(paddle.rand([1, 3, 512, 512]))  # the first call chooses kernels
    loading = utils.load_entire_model = Watched(utils.load_entire_model)
    sliding = infer.inference = Watched(infer.inference)
    began = time.perf_counter()
    predict(
        network,
        str(weights),
        transforms=Compose([Normalize()]),
        image_list=[image],
        save_dir=folder,
        is_slide=True,
        crop_size=[512, 512],
        stride=[384, 384],
    )
    seconds = time.perf_counter() - began - loading.seconds
    return {"seconds": seconds, "inference_seconds": sliding.seconds}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
