"""What training slices show and where they lie, as counts."""

import numpy as np
import pytest
from pydantic import ValidationError

from synthmed.data.attributes import STEPS, AttributeTable, attribute_table

TABLE = AttributeTable(steps=4, positions=(0, 1, 1, 3), shown=((), (1,), (1, 2), (2,)), counts=(4, 1, 3, 2))


def test_the_table_of_a_store_counts_its_training_slices(store):
    """Generators would be asked for slices as no patient has them, or learn of held-out patients."""
    table = attribute_table(store)
    expected: dict = {}
    for case in store.cases("train"):
        labels = store.labels(np.arange(case.first, case.first + case.slices))
        for number, label in enumerate(labels):
            key = (int((number + 0.5) / case.slices * STEPS), tuple(np.unique(label[label > 0]).tolist()))
            expected[key] = expected.get(key, 0) + 1
    rows = zip(table.positions, table.shown, table.counts, strict=True)
    assert {(place, shown): count for place, shown, count in rows} == expected
    assert sum(table.counts) == len(store.indices("train"))
    assert AttributeTable.model_validate_json(table.model_dump_json()) == table


def test_rows_that_show_a_class():
    """`--require-class` would draw slices without the class."""
    rows = TABLE.showing([2])
    assert (rows.positions, rows.shown, rows.counts) == ((1, 3), ((1, 2), (2,)), (3, 2))
    assert TABLE.showing([1, 2]).counts == (3,)
    assert TABLE.showing([3]) is None
    assert TABLE.typical == 0 and TABLE.showing([1]).typical == 1
    assert TABLE.middles.tolist() == [0.125, 0.375, 0.375, 0.875]
    assert TABLE.shown_matrix(4).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_shares_along_the_axis():
    """Generated patients would have organs where real ones have none."""
    shares = TABLE.shares(np.array([0.0, 0.125, 0.25, 0.375, 0.625, 0.875, 1.0]), 3)
    assert np.allclose(shares[:, 0], [0, 0, 0.5, 1, 0.5, 0, 0])
    assert np.allclose(shares[:, 1], [0, 0, 0.375, 0.75, 0.875, 1, 1])


@pytest.mark.parametrize("spoilt", [{"counts": (1,)}, {"counts": (4, 1, 0, 2)}, {"positions": (0, 1, 1, 4)}])
def test_a_damaged_table_is_refused(spoilt):
    """A run whose file was edited by hand would fail far from the fault."""
    with pytest.raises(ValidationError):
        AttributeTable.model_validate(TABLE.model_dump() | spoilt)
