"""Options that fit a public dataset: what its list looks like, and what its users make of it.

Columns and sizes are those of each dataset's publication and of the commands that img2dataset's documentation has for
it; ``docs/datasets/`` has a page on each. Left to the user: how many processes and URLs under way, which the machine
decides, and Weights & Biases, which wants a login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RECIPES"]

_CONCEPTUAL: Final = {
    "input_format": "tsv",
    "url_col": "url",
    "caption_col": "caption",
    "output_format": "webdataset",
    "image_size": 256,
}
_LAION: Final = {
    "input_format": "parquet",
    "url_col": "URL",
    "caption_col": "TEXT",
    "output_format": "webdataset",
}
# Large enough for most models of today, and whatever is smaller stays as it is.
_KEEP_384: Final = {
    "image_size": 384,
    "resize_mode": "keep_ratio",
    "resize_only_if_bigger": True,
    "skip_reencode": True,
}
_LAION_2B_COLUMNS: Final = ("similarity", "hash", "punsafe", "pwatermark")
_DATACOMP: Final = {
    "input_format": "parquet",
    "url_col": "url",
    "caption_col": "text",
    "bbox_col": "face_bboxes",
    "save_additional_columns": ("uid",),
    "output_format": "webdataset",
    "image_size": 512,
    "resize_mode": "keep_ratio_largest",
    "resize_only_if_bigger": True,
    "encode_format": "jpg",
    "oom_shard_count": 8,
}

RECIPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "mscoco": {**_LAION, "image_size": 256},
    "sbucaptions": {
        "input_format": "json",
        "url_col": "image_urls",
        "caption_col": "captions",
        "output_format": "webdataset",
        "image_size": 256,
    },
    "cc3m": _CONCEPTUAL,
    "cc12m": _CONCEPTUAL,
    "laion400m": {**_LAION, "image_size": 256, "save_additional_columns": ("NSFW", "similarity", "LICENSE")},
    "laion5b": {
        **_LAION,
        **_KEEP_384,
        "save_additional_columns": ("NSFW", "similarity", "LICENSE"),
        "oom_shard_count": 6,
    },
    "laion-aesthetic": {**_LAION, **_KEEP_384, "save_additional_columns": (*_LAION_2B_COLUMNS, "aesthetic")},
    "laion-art": {**_LAION, **_KEEP_384, "save_additional_columns": (*_LAION_2B_COLUMNS, "aesthetic", "LANGUAGE")},
    "laion-coco": {
        **_LAION,
        **_KEEP_384,
        "image_size": 256,
        "save_additional_columns": (*_LAION_2B_COLUMNS, "top_caption", "all_captions", "all_similarities"),
    },
    "laion-high-resolution": {
        **_LAION,
        **_KEEP_384,
        "image_size": 1024,
        "save_additional_columns": (*_LAION_2B_COLUMNS, "LANGUAGE"),
    },
    "laion-face": {
        **_LAION,
        "resize_mode": "no",
        "save_additional_columns": ("NSFW", "similarity", "LICENSE", "SAMPLE_ID"),
    },
    "coyo-700m": {
        **_LAION,
        **_KEEP_384,
        "url_col": "url",
        "caption_col": "text",
        "save_additional_columns": (
            *("clip_similarity_vitb32", "clip_similarity_vitl14", "nsfw_score_opennsfw2", "nsfw_score_gantman"),
            *("watermark_score", "aesthetic_score_laion_v2"),
        ),
    },
    "commonpool": _DATACOMP,
    "datacomp-1b": _DATACOMP,
}
