"""A URL list in any format as a lazy stream of shards."""

from async_img2ds.inputs.url_list import UrlList

__all__ = ["UrlList"]
