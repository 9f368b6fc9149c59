"""A URL list in any format as a lazy stream of shards."""

from async_img2ds.inputs.url_list import UrlList, rows_of

__all__ = ["UrlList", "rows_of"]
