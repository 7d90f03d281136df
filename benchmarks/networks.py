"""Networks that cost next to nothing: a run over them is bound by reading, writing and finishing."""

import multiprocessing
import sys
from pathlib import Path

from benchmarks.record import REPOSITORY


def spectral(folder: Path, bands: int) -> Path:
    """Export spectral indices of 4 bands (jobs/spectral.py) or of 3, where red stands in for near infrared.

    Paddle is loaded in a process of its own.
    """
    path = folder / f"spectral{bands}"
    if not (path / "model.pdiparams").exists():
        maker = multiprocessing.get_context("spawn").Process(target=_export, args=(path, bands))
        maker.start()
        maker.join()
        if maker.exitcode:
            msg = f"exporting {path} ended with {maker.exitcode}"
            raise RuntimeError(msg)
    return path


def _export(path: Path, bands: int) -> None:
    sys.path.insert(0, str(REPOSITORY / "jobs"))
    import paddle
    import spectral as indices
    from spectral_layer import SpectralIndices

    class Visible(SpectralIndices):
        """The same of red, green and blue."""

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return super().forward(paddle.concat((x, x[:, :1]), axis=1))

    path.mkdir(parents=True, exist_ok=True)
    kind = SpectralIndices if bands == 4 else Visible
    layer = kind(indices.THRESHOLDS, indices.GAINS, indices.EPSILON)
    layer.eval()
    spec = paddle.static.InputSpec([None, bands, None, None], dtype="float32", name="x")
    paddle.jit.save(layer, str(path / "model"), input_spec=[spec])
    (path / "deploy.yaml").write_text(indices.DEPLOY_YAML.replace("-1, 4", f"-1, {bands}"))
