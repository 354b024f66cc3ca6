"""What the tests of clusters score: predictions in Parquet, and their losses in a single process."""

import lossrs
import lossrs.tables
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LOSS = lossrs.CrossEntropyLoss()
ROWS, CLASSES = 40_000, 10
COLUMNS = {"input": "logits", "target": "label", "sample_weight": "weight", "group": "country"}
#: With ids, extremes and worst rows are the same wherever the rows are.
EVERYTHING = COLUMNS | {"ids": "id", "histogram": True, "worst": 20, "bootstrap": 50, "seed": 7}


def write_predictions(folder, files=4, row_group_size=2_500):
    """Write predictions to several files of several row groups, and return them as a table."""
    rng = np.random.default_rng(0)
    logits = (10 * rng.standard_normal((ROWS, CLASSES))).astype(np.float32)
    table = pa.table(
        {
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), CLASSES),
            "label": np.where(rng.random(ROWS) < 0.01, -100, rng.integers(0, CLASSES, ROWS)),
            "weight": rng.choice([0, 0.25, 1, 3], ROWS).astype(np.float32),
            "country": rng.choice(["de", "fr", "no", "pt"], ROWS, p=[0.5, 0.3, 0.19, 0.01]),
            "id": rng.permutation(ROWS),
        }
    )
    size = ROWS // files
    for file in range(files):
        pq.write_table(table.slice(file * size, size), folder / f"{file}.parquet", row_group_size=row_group_size)
    return table


def single_process(table, **columns):
    """Return the accumulator of a table, which one process has added up."""
    return lossrs.tables.accumulate([table], LOSS, **columns)


def arrays(table):
    """Return the logits and the labels of a table."""
    logits = table["logits"].combine_chunks().flatten().to_numpy().reshape(-1, CLASSES)
    return logits, table["label"].to_numpy()
