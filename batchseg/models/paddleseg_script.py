"""A PaddleSeg config and weights to a package: runs in PaddleSeg's interpreter, by path.

    python paddleseg_script.py REQUEST.json ANSWER.json

It does what tools/export.py of PaddleSeg 2.8 does, with these differences: weights must fit the network name
by name, nothing is downloaded, the number of bands is the network's, and deploy.yaml names the file that is
there. Whatever Paddle prints goes to the caller's log; the answer holds either `error` and its
`cause`, or what was done.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

SHOWN = 3
"""Names in a message; the rest is counted."""


class RefusedError(Exception):
    """The request cannot be done; the message is for the user."""

    def __init__(self, message: str, *, cause: str) -> None:
        """`cause`: environment, config or model."""
        super().__init__(message)
        self.cause = cause


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Write the package.

    Args:
        request: config, weights (or None, with `seed`), output, output_op (argmax, softmax, none),
            input_shape (NCHW or None) and settings (KEY=VALUE of the config).

    Returns:
        What the network is, and notes on what the package cannot say.
    """
    try:
        import paddle
        import paddleseg
        from paddleseg.cvlibs import SegBuilder
    except ImportError as e:
        msg = f"PaddleSeg cannot be imported: {e}"
        raise RefusedError(msg, cause="environment") from e
    os.environ["PADDLESEG_EXPORT_STAGE"] = "True"  # its layers avoid operators that cannot be exported
    config = _config(request)
    transforms = config.val_dataset_cfg.get("transforms") or []
    paddle.seed(request["seed"])
    try:
        builder = SegBuilder(config)
        network = builder.model
    except (AssertionError, RuntimeError, TypeError, KeyError) as e:
        msg = f"PaddleSeg cannot build the network of {request['config']}: {_last_line(e)}"
        raise RefusedError(msg, cause="config") from e
    if request["weights"]:
        _load_weights(paddle, network, request["weights"])
    shape = request["input_shape"] or [None, _bands(config.model_cfg), None, None]
    _save(paddle, network, shape, request)
    _write_deploy(transforms, shape, request)
    return {
        "paddle": paddle.__version__,
        "paddleseg": paddleseg.__version__,
        "network": str(config.model_cfg.get("type")),
        "parameters": sum(int(p.size) for p in network.parameters()),
        "classes": config.model_cfg.get("num_classes")
        or getattr(builder.train_dataset_class, "NUM_CLASSES", None),
        "transforms": [str(t.get("type")) for t in transforms],
        "notes": _notes(config),
    }


def _config(request: dict[str, Any]) -> Any:
    import yaml
    from paddleseg.cvlibs import Config

    path = request["config"]
    try:
        with Path(path).open(encoding="utf-8") as f:
            is_mapping = isinstance(yaml.compose(f, Loader=yaml.SafeLoader), yaml.MappingNode)
        config = Config(path, opts=request["settings"] or None) if is_mapping else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        msg = f"cannot read {path}: {' '.join(str(e).split())}"
        raise RefusedError(msg, cause="config") from e
    except (AssertionError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
        msg = f"PaddleSeg refuses {path}: {_last_line(e)}"
        raise RefusedError(msg, cause="config") from e
    sections = config.dic if config is not None else {}
    for section in ("model", "val_dataset"):
        if "type" not in (sections.get(section) or {}):
            msg = f"{path} is no PaddleSeg config: it has no section `{section}` with a `type`"
            raise RefusedError(msg, cause="config")
    _forget_pretrained(sections["model"])
    return config


def _forget_pretrained(section: dict[str, Any]) -> None:
    """The weights that were given replace them; nothing is to be downloaded."""
    for key, value in section.items():
        if key == "pretrained":
            section[key] = None
        elif isinstance(value, dict):
            _forget_pretrained(value)


def _bands(model: dict[str, Any]) -> int:
    """As PaddleSeg's get_in_channels: of the backbone where there is one, else of the model; 3 by default."""
    owner = model.get("backbone", model)
    return int(owner.get("in_channels") or 3)


def _load_weights(paddle: Any, network: Any, path: str) -> None:
    try:
        state = paddle.load(path)
    except Exception as e:  # a damaged pickle raises anything
        msg = f"{path} holds no Paddle weights (.pdparams): {_last_line(e)}"
        raise RefusedError(msg, cause="model") from e
    if not isinstance(state, dict):
        msg = f"{path} holds a {type(state).__name__}; expected Paddle's weights by name (.pdparams)"
        raise RefusedError(msg, cause="model")
    wanted = {name: list(value.shape) for name, value in network.state_dict().items()}
    found = {
        name: list(value.shape)
        for name, value in state.items()
        if hasattr(value, "shape") and name != "StructuredToParameterName@@"
    }
    _check_weights(path, wanted, found)
    network.set_state_dict(state)


def _check_weights(path: str, wanted: dict[str, list[int]], found: dict[str, list[int]]) -> None:
    """Too many are refused as well: ResNet50 would silently take ResNet101's first layers."""
    reshaped = [
        f"{name} {found[name]} instead of {wanted[name]}"
        for name in wanted
        if name in found and wanted[name] != found[name]
    ]
    problems = {
        "missing": [name for name in wanted if name not in found],
        "of another shape": reshaped,
        "not of this network": [name for name in found if name not in wanted],
    }
    words = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
    if words:
        msg = f"{path} holds the weights of another network: of {len(wanted)} tensors, {'; '.join(words)}"
        raise RefusedError(msg, cause="model")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _save(paddle: Any, network: Any, shape: list[int | None], request: dict[str, Any]) -> None:
    from paddleseg.deploy.export import WrappedModel

    network.eval()
    if request["output_op"] != "none":
        network = WrappedModel(network, request["output_op"])
        network.eval()
    spec = [paddle.static.InputSpec(shape=list(shape), dtype="float32", name="x")]
    try:
        static = paddle.jit.to_static(network, input_spec=spec)
        paddle.jit.save(static, str(Path(request["output"]) / "model"))
    except Exception as e:  # whatever Paddle's compiler meets in a network's code
        size = "free" if shape[2] is None else f"{shape[2]} x {shape[3]}"
        hint = "; try a fixed input shape" if shape[2] is None else ""
        msg = f"Paddle cannot export this network with {size} size: {_last_line(e)}{hint}"
        raise RefusedError(msg, cause="model") from e


def _write_deploy(transforms: list[dict[str, Any]], shape: list[int | None], request: dict[str, Any]) -> None:
    import yaml

    folder = Path(request["output"])
    (network,) = (path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))
    deploy = {
        "model": network.name,
        "params": "model.pdiparams",
        "transforms": json.loads(json.dumps(transforms)),  # tuples become lists: safe YAML has no tuples
        "input_shape": [-1 if n is None else n for n in shape],
        "output_op": request["output_op"],
        "output_dtype": "int32" if request["output_op"] == "argmax" else "float32",
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}), encoding="utf-8")


def _notes(config: Any) -> list[str]:
    """What PaddleSeg's own evaluation does and deploy.yaml cannot say (`test` in newer configs)."""
    test = config.dic.get("test_config") or config.dic.get("test") or {}
    scales = test.get("scales", 1.0)
    notes = []
    if test.get("aug_eval") and scales not in (1, 1.0, [1.0], [1]):
        notes.append(f"it was evaluated on images resized by {scales}: feed it pixels of that size")
    if test.get("is_slide"):
        notes.append(f"it was evaluated in windows of {test.get('crop_size')} (w, h)")
    return notes


def _last_line(error: BaseException) -> str:
    """What an error says, without the lines above, and the end, that say where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(" (at ")[0][:300] if lines else type(error).__name__


def main(request_path: str, answer_path: str) -> None:
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    try:
        answer = export(request)
    except RefusedError as e:
        answer = {"error": str(e), "cause": e.cause}
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
