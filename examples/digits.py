"""Softmax regression on handwritten digits: plain NumPy, with the gradient from lossrs.

Trains on the 1,797 images that scikit-learn bundles and writes the predictions of both splits to digits.parquet:

    pip install 'lossrs[score]' scikit-learn
    python examples/digits.py
    lossrs score examples/digits.parquet --loss cross_entropy --input 'logit_*' --target label --by split
"""

import sys
from pathlib import Path

import lossrs.functional as F
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

STEPS = 200
LEARNING_RATE = 0.5


def main(output: Path) -> None:
    """Train, report, and write the predictions."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16.0
    is_train = np.random.default_rng(0).permutation(len(images)) < 1_200
    train_images, train_labels = images[is_train], labels[is_train]

    weights, bias = np.zeros((64, 10)), np.zeros(10)
    for step in range(STEPS + 1):
        logits = train_images @ weights + bias
        loss, gradient = F.cross_entropy.value_and_grad(logits, train_labels)
        if step % 50 == 0:
            print(f"step {step:3d}  train loss {loss:.6f}")
        if step < STEPS:
            weights -= LEARNING_RATE * (train_images.T @ gradient)
            bias -= LEARNING_RATE * gradient.sum(axis=0)

    logits = (images @ weights + bias).astype(np.float32)
    for split, rows in (("train", is_train), ("test", ~is_train)):
        loss = F.cross_entropy(logits[rows], labels[rows])
        accuracy = np.mean(logits[rows].argmax(axis=1) == labels[rows])
        print(f"{split:5s}  loss {loss:.6f}  accuracy {accuracy:.4f}  rows {rows.sum()}")

    columns = {"split": pa.array(np.where(is_train, "train", "test")), "label": pa.array(labels.astype(np.uint8))}
    scores = {f"logit_{digit}": pa.array(logits[:, digit]) for digit in range(10)}
    pq.write_table(
        pa.table(columns | scores),
        output,
        compression="zstd",
        use_dictionary=["split"],
        use_byte_stream_split=list(scores),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("digits.parquet"))
