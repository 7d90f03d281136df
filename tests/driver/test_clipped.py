import pyarrow as pa
import pytest

from batchseg.driver.clipped import clipped_words

TABLE = pa.table(
    {"source_id": ["a", "b", "c"], "valid_pixels": [100, 100, 100], "clipped_pixels": [0, 3, 50]}
)


@pytest.mark.parametrize("kind", [pa.array, pa.chunked_array])
def test_what_this_run_clipped_is_told(kind):
    def ids(*names):
        words = list(names)
        return kind(words) if kind is pa.array else pa.chunked_array([words])

    assert clipped_words(TABLE, ids("a")) == ""
    assert clipped_words(TABLE, ids("a", "b")).startswith("1.50% of the numbers, in 1 source, lie at an end")
    assert "in 2 sources" in clipped_words(TABLE, ids("b", "c"))
