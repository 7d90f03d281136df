"""What a user gives `python -m benchmarks`, and what every case asks of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import RECORDS, SkippedError

AERIAL = Path("derived", "naip_big_7472x5784_jpeg.tif")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One field per option of the command line; what is None was not given."""

    work: Path
    """Generated inputs, which are kept, and outputs, which are not."""
    out: Path = RECORDS
    """Files of what was measured."""
    rounds: int = 5
    only: tuple[str, ...] = ()
    """Parts of the one case that is measured; none: all."""
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

    def need_aerial(self) -> Path:
        """The scene of --scene, or the aerial image of 43 megapixels below --data."""
        if self.scene is not None:
            return self.scene.resolve()
        if self.data is None or not (self.data / AERIAL).exists():
            msg = f"needs --scene, an aerial image in RGB, or --data, a folder that has {AERIAL}"
            raise SkippedError(msg)
        return (self.data / AERIAL).resolve()

    def folder(self, name: str) -> Path:
        """A folder of --work."""
        path = self.work.resolve() / name
        path.mkdir(parents=True, exist_ok=True)
        return path
