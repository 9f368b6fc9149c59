"""Read TFRecord files as a training script would, and print what was in them: one JSON mapping a record.

A program of its own, because TensorFlow and the package tfrecord both bring the protocol buffers of an Example, and one
process can have them once.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorflow as tf

FEATURES = {
    **{name: tf.io.FixedLenFeature([], tf.string) for name in ("key", "jpg", "txt", "url", "status", "error_message")},
    "width": tf.io.FixedLenFeature([], tf.int64),
    "tags": tf.io.RaggedFeature(tf.string),
    "score": tf.io.FixedLenFeature([], tf.float32, default_value=-1),
    "hash": tf.io.FixedLenFeature([], tf.int64, default_value=0),
}


def main(paths: list[str]) -> None:
    """Print the records of *paths*, or the name of the error that TensorFlow raised."""
    records = tf.data.TFRecordDataset(paths).map(lambda data: tf.io.parse_single_example(data, FEATURES))
    try:
        for record in records:
            shown = {name: np.asarray(value.numpy()).tolist() for name, value in record.items()}
            shown["jpg"] = tf.io.decode_jpeg(record["jpg"]).shape.as_list()
            print(json.dumps(shown, default=bytes.decode))
    except tf.errors.DataLossError as error:
        print(json.dumps({"error": type(error).__name__}))


if __name__ == "__main__":
    main(sys.argv[1:])
