"""Commands as people type them, with nothing changed but the program's name and the paths.

They are those of img2dataset's README and dataset examples, and of projects that are built on it, with small lists in
place of large ones, two processes in place of sixteen, and Weights & Biases left out.
"""

from __future__ import annotations

import shlex
from typing import Final

from compat.settings import Setting

__all__ = ["COMMANDS"]

_COMMON: Final = "--output_format webdataset --processes_count 2 --thread_count 64"
_BIGGER: Final = '--image_size 384 --resize_only_if_bigger=True --resize_mode="keep_ratio" --skip_reencode=True'
_TYPED: Final = {
    "README": "--url_list=LISTS/myimglist.txt --output_folder=output_folder --thread_count=64 --image_size=256",
    "positional": "LISTS/myimglist.txt --output_folder output_folder",
    "three-positions": "LISTS/myimglist.txt 200 output_folder",
    "hyphens": "--url-list LISTS/myimglist.txt --output-folder out/ --resize-mode keep_ratio --thread-count 8",
    "sbu": '--url_list LISTS/sbu-captions-all.json --input_format "json" --url_col "image_urls" '
    f'--caption_col "captions" --output_folder sbucaptions {_COMMON} --image_size 256',
    "cc3m": '--url_list LISTS/cc3m.tsv --input_format "tsv" --url_col "url" --caption_col "caption" '
    f"--output_folder cc3m {_COMMON} --image_size 256 --enable_wandb=False",
    "laion400m": '--url_list LISTS/laion400m-meta --input_format "parquet" --url_col "URL" --caption_col "TEXT" '
    "--output_format webdataset --output_folder laion400m-data --processes_count 2 --thread_count 128 --image_size 256 "
    """--save_additional_columns '["NSFW","similarity","LICENSE"]' --enable_wandb False""",
    "laion-aesthetic": '--url_list LISTS/laion400m-meta --input_format "parquet" --url_col "URL" --caption_col "TEXT" '
    f"--output_folder laion-aesthetic {_COMMON} {_BIGGER} "
    """--save_additional_columns '["similarity","hash","punsafe","pwatermark"]' --enable_wandb False""",
    "laion5b-md5": '--url_list LISTS/laion400m-meta --input_format "parquet" --url_col "URL" --caption_col "TEXT" '
    f"--output_folder laion5b {_COMMON} {_BIGGER} --number_sample_per_shard 10000 --oom_shard_count 6 "
    """--compute_hash md5 --verify_hash '["md5","md5"]' --save_additional_columns '["NSFW","similarity","LICENSE"]'""",
    "laion-coco": '--url_list LISTS/laion-coco.parquet --input_format "parquet" --url_col "URL" --caption_col '
    f'"top_caption" --output_folder laion-coco {_COMMON} --image_size 256 --resize_only_if_bigger=True '
    '--resize_mode="keep_ratio" --skip_reencode=True '
    """--save_additional_columns '["all_captions","all_similarities"]' --enable_wandb False""",
    "laion-face": '--url_list LISTS/mscoco.parquet --input_format "parquet" --url_col "URL" --caption_col "TEXT" '
    "--output_format webdataset --output_folder split_00001 --processes_count 2 --thread_count 128 --resize_mode no "
    """--save_additional_columns '["SAMPLE_ID"]' --enable_wandb False""",
    "bare-switches": "LISTS/myimglist.txt --output_folder out --resize_only_if_bigger --skip_reencode "
    "--resize_mode keep_ratio_largest --disallowed_header_directives '[]' --retries 1",
    "switches-in-words": "LISTS/myimglist.txt --output_folder=out --resize_only_if_bigger=False --extract_exif=False "
    "--skip_reencode True --disable_all_reencoding=False --compute_hash=None --caption_col=None",
    "tuning": "LISTS/myimglist.txt --output_folder out --encode_format=png --encode_quality 9 --timeout=5 "
    "--number_sample_per_shard=5 --oom_shard_count=3 --max_shard_retry 2 --distributor multiprocessing --subjob_size 9 "
    "--incremental_mode incremental --min_image_size 10 --max_image_area 1e6 --max_aspect_ratio=3.5 --wandb_project x",
    "lists-without-quotes": "--url_list LISTS/mscoco.parquet --input_format=parquet --url_col=URL --output_folder=out "
    "--save_additional_columns=[SAMPLE_ID,TEXT] --user_agent_token img2dataset",
    "negated": "LISTS/myimglist.txt --output_folder out --noextract_exif --noresize_only_if_bigger",
}


def _output(words: list[str]) -> str:
    """Return the folder that a command names."""
    for at, word in enumerate(words):
        flag, _, value = word.replace("-", "_").partition("=")
        if flag == "__output_folder":
            return value or words[at + 1]
    return words[2]


def _settings() -> dict[str, Setting]:
    split = {name: shlex.split(typed) for name, typed in _TYPED.items()}
    return {f"command-{name}": Setting(None, tuple(words), _output(words)) for name, words in split.items()}


# By what they are known for.
COMMANDS: Final = _settings()
