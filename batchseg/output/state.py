"""What an output remembers of how it was made."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from batchseg.errors import ConfigError, OutputError
from batchseg.inputs.ids import InputRoot, lies_inside
from batchseg.job.recipe import digest
from batchseg.job.settings import MaskNames
from batchseg.models.package import ModelFacts
from batchseg.output import layout, publish
from batchseg.pixels.usual_values import Usual
from batchseg.predict.choice import Choice, as_document, from_document
from batchseg.system import fetch, listing
from batchseg.system.json_text import parse_json
from batchseg.system.location import unreadable
from batchseg.system.redact import public

_Value = TypeVar("_Value")

FORMAT = 1
"""Of batchseg's own files; an output of another format is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputState:
    """What `layout.state_uri` holds."""

    pixel: Mapping[str, Any]
    """The pixel settings of all masks in this output."""
    device: Literal["cpu", "gpu"]
    facts: ModelFacts
    """Kept, so that a night with nothing to do does not load the model."""
    roots: Mapping[str, InputRoot]
    """How source ids are made, by input pattern."""
    choice: Choice | None = None
    """How the network is run; made once, kept by later runs."""
    classes: tuple[str, ...] = ()
    """Names by class id; empty names of those that were merged into others."""
    colors: tuple[str, ...] = ()
    """#rrggbb by class id; empty in outputs of earlier versions."""
    vanished: tuple[str, ...] = ()
    """Sources that the last run did not find any more: what `prune` removes."""
    unseen: tuple[str, ...] = ()
    """Why others that it did not find may be there still, in lines; empty where there are none."""
    broken_rows: tuple[str, ...] = ()
    """What the last run left out of lists because it is broken, in lines."""
    usual: tuple[Usual, ...] = ()
    """What its first sources held; empty where none was looked at that shows it."""
    mask_names: MaskNames = "kept"
    """How its masks are named, from its beginning on."""

    @property
    def class_list(self) -> str:
        """The names of the classes that pixels may have, for messages."""
        return ", ".join(filter(None, self.classes))

    @property
    def of_photographs(self) -> bool:
        """Whether the output is of photographs, not of scenes."""
        return "fit" in self.pixel

    def is_input(self, uri: str) -> bool:
        """Whether a file lies below a folder of the job's inputs, as its text says."""
        if unreadable(uri) or re.search(r"[\x00-\x1f]|::|(^|/)\.\.?(/|$)", uri):
            return False
        return any(root.prefix and lies_inside(uri, root.prefix) for root in self.roots.values())


def load_state(output: str) -> OutputState | None:
    """None for an output that no run has recorded anything in.

    Raises:
        OutputError: it cannot be read.
        ConfigError: it was made by another format of batchseg, or by a newer one.
    """
    uri = layout.state_file(output)
    try:
        loaded = parse_json(fetch.read_bytes(uri))
        if loaded["format"] != FORMAT:
            msg = f"{output} has format {loaded['format']}, this batchseg writes {FORMAT}; use another output"
            raise ConfigError(msg)
        return OutputState(
            pixel=dict(loaded["pixel"]),
            device=loaded["device"],
            facts=_typed(ModelFacts(**loaded["facts"])),
            roots={root.pattern: root for root in map(_root, loaded["roots"])},
            choice=_typed(from_document(loaded.get("choice"))),
            classes=_texts(loaded["classes"]),
            colors=_colors(loaded.get("colors", [])),
            vanished=_texts(loaded.get("vanished", [])),
            unseen=_texts(loaded.get("unseen", [])),
            broken_rows=_texts(loaded.get("broken_rows", [])),
            usual=tuple(_typed(Usual(**one)) for one in loaded.get("usual", [])),
            mask_names=_mask_names(loaded, output),
        )
    except FileNotFoundError:
        return None
    except NotADirectoryError as e:
        msg = f"output: {output} lies below something that is no folder"
        raise ConfigError(msg) from e
    except OSError as e:
        msg = f"cannot read {uri}: {e.strerror or e}"
        raise OutputError(msg) from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        msg = (
            f"{uri} is damaged ({type(e).__name__}: {e}); restore it from a backup, or move it away "
            f"and run the job with the settings that it had: what is done stays done"
        )
        raise OutputError(msg) from e


def _mask_names(loaded: Mapping[str, Any], output: str) -> MaskNames:
    names = loaded.get("mask_names", "added")  # outputs of earlier versions do not say it
    if not isinstance(names, str):
        msg = "mask_names is of another type"
        raise TypeError(msg)
    known: dict[str, MaskNames] = {name: name for name in get_args(MaskNames)}
    if names not in known:
        msg = f"{output} names its masks by a rule that this batchseg does not know ({names[:20]!r})"
        raise ConfigError(msg)
    return known[names]


def _typed(value: _Value) -> _Value:
    """A dataclass whose values are of the types that it declares; None. Raises TypeError."""
    hints = {} if value is None else get_type_hints(type(value))
    for name, hint in hints.items():
        if not _fits(getattr(value, name), hint):
            msg = f"{name} is of another type"
            raise TypeError(msg)
    return value


def _fits(value: Any, hint: Any) -> bool:
    """What a tuple or a mapping holds is not looked at."""
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if kind is float:
        return isinstance(value, int | float)
    return kind is Any or isinstance(value, kind)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        msg = "expected a list of texts"
        raise TypeError(msg)
    return tuple(values)


def _colors(values: Any) -> tuple[str, ...]:
    colors = _texts(values)
    if not all(re.fullmatch("#[0-9a-fA-F]{6}", color) for color in colors):
        msg = "expected colours such as #a0522d"
        raise ValueError(msg)
    return colors


def _root(document: Mapping[str, str]) -> InputRoot:
    """Earlier versions recorded the credentials that a URL held."""
    root = _typed(InputRoot(**document))
    return replace(root, pattern=public(root.pattern), prefix=public(root.prefix))


def save_state(output: str, state: OutputState) -> None:
    document = {
        "format": FORMAT,
        "pixel": dict(state.pixel),
        "device": state.device,
        "facts": dataclasses.asdict(state.facts),
        "roots": [dataclasses.asdict(root) for root in state.roots.values()],
        "choice": as_document(state.choice),
        "classes": list(state.classes),
        "colors": list(state.colors),
        "vanished": list(state.vanished),
        "unseen": list(state.unseen),
        "broken_rows": list(state.broken_rows),
        "usual": [dataclasses.asdict(one) for one in state.usual],
        "mask_names": state.mask_names,
    }
    publish.publish(layout.state_file(output), json.dumps(document, indent=1, sort_keys=True).encode())


def check_pixel_settings(state: OutputState | None, settings: Mapping[str, Any], output: str) -> None:
    """Refuse to mix masks of different settings in one output.

    Raises:
        ConfigError: names each setting that differs.
    """
    if state is None or state.pixel == settings:
        return
    keys = sorted(key for key in {*state.pixel, *settings} if state.pixel.get(key) != settings.get(key))
    changes = [f"  {key}: {_short(state.pixel.get(key))} -> {_short(settings.get(key))}" for key in keys]
    msg = f"{output} holds masks made with other settings:"
    remedy = (
        f"Keep both: --set output={sibling(output, settings)}. Predict everything again here: --replace. "
        f"Or restore the settings."
    )
    raise ConfigError(msg, *changes, remedy)


def sibling(output: str, settings: Mapping[str, Any]) -> str:
    """The name of an output beside this one, for other settings."""
    return f"{output.rstrip('/')}-{digest(settings)[:6]}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:16] + "..."


def require_results(output: str) -> OutputState | None:
    """What a run recorded of an output; None where the first one was interrupted before it recorded it.

    Raises:
        ConfigError: no run has ever begun there.
        OutputError: it cannot be read.
    """
    state = load_state(output)
    if state is None and not has_run(output):
        msg = f"{output} holds no results of batchseg; give the `output` of a job"
        raise ConfigError(msg)
    return state


def has_run(output: str) -> bool:
    """Whether a run has ever begun here."""
    folder = layout.locks_folder(output)
    with publish.output_errors("list", folder):
        return any(True for _ in listing.list_folder(folder))
