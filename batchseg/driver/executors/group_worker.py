"""What does groups in a predictor's process, made only where groups will come.

Scenes are spared the decoders of photographs: their modules are imported here when they are needed.
"""

from typing import TYPE_CHECKING

from batchseg.job.recipe import Product, Recipe
from batchseg.predict.predictor import Predictor

if TYPE_CHECKING:
    from batchseg.driver.photo_worker import GroupWorker


def group_worker(
    output: str,
    recipe: Recipe,
    product: Product,
    predictor: Predictor,
    *,
    batch_size: int,
    readers: int,
    cpu_class: str,
) -> "GroupWorker | None":
    """What does groups of photographs with a predictor; None: the product is of scenes."""
    if product.photographs is None:
        return None
    from batchseg.driver.photo_worker import GroupWorker

    return GroupWorker(
        output, recipe, product, predictor, batch_size=batch_size, readers=readers, cpu_class=cpu_class
    )
