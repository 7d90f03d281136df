import pyarrow as pa

from batchseg.output.class_sums import ClassSums, class_sums
from batchseg.output.record import SceneRecord, to_table


def record(name: str, ids: tuple[int, ...], pixels: tuple[int, ...], status: str = "done") -> SceneRecord:
    return SceneRecord(status=status, source_id=name, tag="t", class_ids=ids, class_pixels=pixels)  # type: ignore[arg-type]


def test_pixels_are_summed_by_class_over_what_is_done() -> None:
    table = to_table(
        [
            record("a", (0, 2), (5, 7)),
            record("b", (2,), (3,)),
            record("c", (), ()),
            record("d", (1,), (9,), status="quarantined"),
        ]
    )
    assert class_sums(table) == ClassSums(pixels={0: 5, 2: 10}, sources=2, alone={2: 1})
    assert class_sums(table, pa.array(["b", "c"])) == ClassSums(pixels={2: 3}, sources=1, alone={2: 1})
    assert class_sums(table, pa.array(["b"])).only_class == 2
    assert class_sums(table.slice(0, 0)) == ClassSums()
    assert ClassSums().only_class is None
