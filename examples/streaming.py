"""Train on images as they come from the web: nothing is written to disk.

    python examples/streaming.py urls.txt
    python examples/streaming.py pairs.parquet input_format=parquet url_col=URL steps=100

The model is as small as one can be, the mean picture; what stands around it is a training loop. Images are fetched in
a thread beside it, no faster than it takes them, and all of that ends when the loop is left.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from async_img2ds import stream

SIDE = 64
BATCH = 8


def batches(url_list: str, failed: Counter[str], **options: str) -> Iterator[np.ndarray]:
    """Yield images in batches, as arrays of batch, height, width and colours between 0 and 1; count what failed."""
    batch: list[np.ndarray] = []
    for sample in stream(url_list, decode="numpy", image_size=SIDE, resize_mode="center_crop", **options):
        if sample.image is None:
            failed[str(sample.error_class)] += 1
            continue
        batch.append(sample.image)
        if len(batch) == BATCH:
            yield np.stack(batch) / 255.0
            batch = []
    if batch:
        yield np.stack(batch) / 255.0


def main(url_list: str, *words: str) -> None:
    """Train for some steps, or until the list ends."""
    options = dict(word.split("=", 1) for word in words)
    steps = int(options.pop("steps", "20"))
    failed: Counter[str] = Counter()
    model = np.full((SIDE, SIDE, 3), 0.5)

    for step, batch in enumerate(batches(url_list, failed, **options), start=1):
        error = batch - model
        model += 0.3 * error.mean(axis=0)
        print(f"step {step}: {len(batch)} images, loss {np.square(error).mean():.4f}")
        if step == steps:
            break

    print(f"mean colour {np.round(model.mean(axis=(0, 1)), 2)}; rows without an image: {dict(failed)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
