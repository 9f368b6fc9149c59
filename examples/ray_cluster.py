"""Fetch a list on Ray.

    python examples/ray_cluster.py urls.txt images                                  # Ray on this machine
    RAY_ADDRESS=head:6379 python examples/ray_cluster.py s3://bucket/lists s3://bucket/images ray_cpus=2

What follows are options, as ``aimg2ds fetch --help`` has them. docs/ray.md says what a cluster needs.
"""

import sys

import ray

from async_img2ds import download, summary


def main(url_list: str, output_folder: str, *words: str) -> None:
    """Fetch on the cluster that RAY_ADDRESS names, or on one that is started here and ended behind it."""
    options = dict(word.split("=", 1) for word in words)
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        report = download(
            url_list=url_list,
            output_folder=output_folder,
            output_format="webdataset",
            distributor="ray",
            **options,
        )
        print(f"{report.successes} of {report.count} rows have an image, at {report.images_per_second:.0f} a second")

        found = summary(output_folder)
        print(f"{found.shards} shards with {found.rows} rows, {found.bytes_written / 1e6:.1f} MB of images")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
