"""Fetch a list of URLs into a webdataset, and say what became of it.

    python examples/simple.py urls.txt images
    python examples/simple.py pairs.csv images input_format=csv caption_col=caption image_size=384

What follows the list and the folder are options, as ``aimg2ds fetch --help`` has them.
"""

import sys
import tarfile
from pathlib import Path

from async_img2ds import download


def main(url_list: str, output_folder: str, *words: str) -> None:
    """Fetch, and look at what came."""
    options = dict(word.split("=", 1) for word in words)
    report = download(url_list=url_list, output_folder=output_folder, output_format="webdataset", **options)

    print(f"{report.successes} of {report.count} rows have an image, at {report.images_per_second:.0f} images a second")
    for reason, count in report.error_classes.items():
        print(f"{count:7,}  {reason}")
    if report.error_classes:
        print("What each of these means, and what to do about it: docs/formats.md#why-a-row-failed")

    for shard in sorted(Path(output_folder).glob("*.tar")):
        with tarfile.open(shard) as tar:
            print(f"{shard}: {len(tar.getnames())} files, such as {', '.join(tar.getnames()[:2])}")


# The workers are fresh interpreters, and may import this file.
if __name__ == "__main__":
    main(*sys.argv[1:])
