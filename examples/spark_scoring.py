"""Score predictions on Spark: an accumulator for each partition, by mapInArrow, merged where their states arrive.

pip install 'lossrs[score]' pyspark            # and the Java that this Spark asks for
python examples/spark_scoring.py examples/digits.parquet
"""

import sys
from collections.abc import Iterator

import lossrs
import lossrs.tables
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.types import DoubleType, StructField, StructType

LOSS = lossrs.CrossEntropyLoss()
COLUMNS = {"input": "logit_*", "target": "label"}


def states(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Return the state of a partition, a row of one column."""
    total = lossrs.tables.accumulate(batches, LOSS, histogram=True, group="split", **COLUMNS)
    yield pa.record_batch({"state": pa.array([total.to_bytes()], pa.binary())})


def with_losses(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Return the rows with their losses."""
    return map(lossrs.tables.PerSample(LOSS, **COLUMNS), batches)


def main(path: str) -> None:
    """Score the predictions with Spark and without."""
    spark = SparkSession.builder.appName("lossrs").getOrCreate()
    frame = spark.read.parquet(path).repartition(7)
    total = lossrs.Accumulator(LOSS, histogram=True)
    for row in frame.mapInArrow(states, "state binary").collect():
        total.merge(lossrs.Accumulator.from_bytes(row.state, LOSS))
    scored = frame.mapInArrow(with_losses, StructType([*frame.schema, StructField("loss", DoubleType())]))
    worst = scored.orderBy("loss", ascending=False).first()
    spark.stop()

    result = total.result()
    print(f"all    {result.rows:5}  {result.mean:.6f} ± {result.standard_error:.6f}, 99 %: {result.quantile(0.99):.3f}")
    for split, group in result.groups.items():
        print(f"{split:6} {group.rows:5}  {group.mean:.6f} ± {group.standard_error:.6f}")
    print(f"the worst row: a {worst.label}, loss {worst.loss:.6f}; by the accumulator {result.maximum:.6f}")
    alone = lossrs.tables.accumulate([pq.read_table(path)], LOSS, histogram=True, group="split", **COLUMNS)
    print("the bits of a single process:", total.to_bytes() == alone.to_bytes())


if __name__ == "__main__":
    main(sys.argv[1])
