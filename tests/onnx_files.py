"""Networks as ONNX files."""

from batchseg.engines.base import engine
from batchseg.models.package import ModelPackage


def offered(name: str, package: ModelPackage, device: str = "cpu") -> dict[str, str | None]:
    return {offer.precision: offer.reason for offer in engine(name).offers(package, device)}
