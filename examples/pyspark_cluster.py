"""Fetch a list on Spark, and look at the dataset with it.

    python examples/pyspark_cluster.py urls.txt images                                # Spark on this machine
    MASTER=spark://head:7077 python examples/pyspark_cluster.py s3://bucket/lists s3://bucket/images

What follows are options, as ``aimg2ds fetch --help`` has them. How the package gets to the executors is said in
docs/spark.md.
"""

import os
import sys

from pyspark.sql import SparkSession

from async_img2ds import download


def main(url_list: str, output_folder: str, *words: str) -> None:
    """Fetch in a session of our own, which is used and left as it is."""
    options = dict(word.split("=", 1) for word in words)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master(os.environ.get("MASTER", "local[2]"))
        .appName("images")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    try:
        report = download(
            url_list=url_list,
            output_folder=output_folder,
            output_format="parquet",
            distributor="pyspark",
            **options,
        )
        print(f"{report.successes} of {report.count} rows have an image, in {report.shards_done} shards")

        table = spark.read.parquet(f"{output_folder}/*.parquet")
        table.groupBy("status", "error_class").count().orderBy("count", ascending=False).show()
    finally:
        spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
