"""What a user gives `python -m benchmarks`, and what every case asks of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import RECORDS, SkippedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One field per option of the command line; what is None was not given."""

    work: Path
    """Generated inputs, which are kept, and outputs, which are not."""
    out: Path = RECORDS
    """Files of what was measured."""
    rounds: int = 5
    only: tuple[str, ...] = ()
    """Rows of case a; none: all."""
    scene_size: int = 6560
    """Pixels per side of case a's scene."""
    data: Path | None = None
    scene: Path | None = None
    model: Path | None = None
    s3: str | None = None
    paddleseg: Path | None = None
    workers: int = 2
    uint8_size: int = 20_000
    """Pixels per side of case b's scene of 3 bands; of case c's, the other one's."""
    uint16_size: int = 10_980
    photographs: int = 20_000
    peer_size: int = 3072
    """Pixels per side of the part of the scene that case g predicts."""
    peer_photographs: int = 60
    say: Callable[[str], None] = print

    def need_model(self) -> Path:
        if self.model is None:
            msg = "needs --model: PP-LiteSeg-STDC1 of 19 classes, as `batchseg model export` writes it"
            raise SkippedError(msg)
        return self.model.resolve()

    def need_scene(self) -> Path:
        """The scene of --scene, or the largest RGB GeoTIFF of 8 bits below --data."""
        from benchmarks.scenes import largest_scene

        if self.scene is not None:
            return self.scene.resolve()
        if self.data is None:
            msg = "needs --scene, an RGB GeoTIFF of some 40 megapixels, or --data, a folder that has one"
            raise SkippedError(msg)
        return largest_scene(self.data)

    def folder(self, name: str) -> Path:
        """A folder of --work."""
        path = self.work.resolve() / name
        path.mkdir(parents=True, exist_ok=True)
        return path
