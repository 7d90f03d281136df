"""A decoded photograph on its way to the network, or why it is not what the job says, by its own pixels."""

from collections.abc import Sequence

from batchseg.errors import MismatchError
from batchseg.job.recipe import Recipe
from batchseg.pixels.band_order import order_problem
from batchseg.pixels.fit import misfit
from batchseg.pixels.own_values import contradiction, may_contradict
from batchseg.pixels.photo.picture import Picture
from batchseg.pixels.usual_values import Usual, reach_of, unlike
from batchseg.pixels.value_remedy import remedy_for
from batchseg.pixels.values import hold
from batchseg.predict.photo import Fitting
from batchseg.predict.photo_values import sample_fitting, sample_photo


def fit_photo(
    source_id: str, picture: Picture, recipe: Recipe, usual: Sequence[Usual] = ()
) -> tuple[Fitting, str]:
    """Bring a photograph to the network.

    Args:
        source_id: of the photograph.
        picture: decoded.
        recipe: the pixel settings.
        usual: what the output's first photographs held; empty: nobody knows.

    Returns:
        The photograph, and why it is no PASS while the job says `check_values`: its bands are in another
        order than the job reads, or it may be of another unit than the output's first ones; empty: it is
        alike. Where the job does not say so, how its values contradict themselves is such a reason, too.

    Raises:
        MismatchError: its bands or its values are not what the model takes, or it has a place; or the job
            says `check_values` and its values contradict themselves.
    """
    try:
        fitting = Fitting(picture, recipe)
    except MismatchError as e:
        wrong = misfit(str(picture.pixels.dtype), recipe.scale, picture.stored)
        if wrong is None or not str(e).startswith(wrong):
            raise
        msg = f"{wrong}; {_way_out(source_id, picture, recipe, usual)}"
        raise MismatchError(msg) from e
    reasons = order_problem(picture.colors, recipe), _other_values(source_id, fitting, recipe, usual)
    return fitting, "; and ".join(filter(None, reasons))


def _other_values(source_id: str, fitting: Fitting, recipe: Recipe, usual: Sequence[Usual]) -> str:
    """Empty where they are alike. Raises MismatchError as `fit_photo`."""
    kind = str(fitting.pixels.dtype)
    if kind == "uint8" and not may_contradict(kind, recipe.scale, recipe):
        return ""
    sample = sample_fitting(source_id, fitting, recipe)
    if sample is None:
        return ""
    if reason := contradiction(sample, recipe):
        if recipe.check_values:
            raise MismatchError(reason)
        return reason  # a later night's job may ask again
    return unlike(reach_of(sample), usual) if usual and kind != "uint8" else ""


def _way_out(source_id: str, picture: Picture, recipe: Recipe, usual: Sequence[Usual]) -> str:
    """Of pixels of a type that the scale does not fit."""
    dtype = str(picture.pixels.dtype)
    others = sorted({one.dtype for one in usual})
    if others and dtype not in others:
        return (
            f"the first photographs of this output are {' and '.join(others)}: if the camera changed, give "
            f"its photographs a job and an output of their own, else convert this one"
        )
    sample = sample_photo(source_id, picture, recipe)
    held = hold([sample], recipe) if sample is not None else None
    plain = recipe.normalize is None and recipe.scale.kind == "transforms"
    remedy = remedy_for(held, plain=plain) if held is not None else None
    return f"to do photographs such as this one {remedy}" if remedy else "it has no pixel that shows its unit"
