"""What owners write into headers, and whether it reserves an image from us."""

from __future__ import annotations

__all__ = ["NOT_RESERVING", "RESERVING", "TDM", "USAGE"]

# Lines of X-Robots-Tag.
RESERVING = [
    *("noai", "noimageai", "noindex", "noimageindex", "noml", "none", "NoAI", "\tNOIMAGEAI ", ",,  ,noai,"),
    *("max-image-preview:large, noai", "noai, max-snippet:-1", "noindex, nofollow, max-snippet:0"),
    "max-snippet : 5, max-video-preview: 0, noai",
    "unavailable_after: 25 Jun 2130 15:00:00 PST, noai",
    "unavailable_after: 2130-06-25T15:00:00+00:00, noai",
    "unavailable_after: Sun, 03 Dec 2130 13:09:53 GMT, noai",
    "unavailable_after: sunset, noai",
    "noai, unavailable_after: Sun, 03 Dec 2130 13:09:53 GMT",
    *("googlebot: noindex, img2dataset: noai", "BadBot: noindex, nofollow, AsyncImgDS: noimageai"),
    *("img2dataset : noai", "img2dataset: nofollow, noai", "img2dataset: max-snippet:0, noai"),
    *("AsyncImgDS/1.0: noai", "unavailable_after: 21 Sep 2010"),
    *("*: noindex", "robots: noimageindex", "googlebot: nofollow, *: noai"),
    *("all, noai", "noai, all", "noai, otherbot: nofollow", "something-new, noai"),
    *("unavailable_after: 2025-11-22", "unavailable_after: 22 Nov 2025 15:00:00 PST"),
    *("unavailable_after: Saturday, 22-Nov-25 13:09:53 GMT", "Unavailable_After:Sat, 22 Nov 2025 13:09:53 GMT, all"),
    *("unavailable_after: 2025-11-23T00:59:59+01:00", "img2dataset: unavailable_after: 2020-01-01T00:00:00Z"),
]
NOT_RESERVING = [
    *("", " ", ",", ":", ",:,:", "all", "nofollow", "noarchive, notranslate, nosnippet"),
    *("noaix", "no ai", "noai;", "noai=1", "xnoindex", "noai: nofollow"),
    *("max-snippet:0", "max-image-preview:none", "max-image-preview: noai", "max-video-preview:noindex"),
    *("unavailable_after: 2130-06-25T15:00:00+00:00", "unavailable_after: Sun, 03 Dec 2130 13:09:53 GMT"),
    *("unavailable_after: yesterday", "unavailable_after: 9999-12-31T23:59:59-12:00"),
    *("unavailable_after:", "unavailable_after: 2020-13-45", "otherbot: unavailable_after: 2020-01-01"),
    *("otherbot: noai", "otherbot: nofollow, noai", "otherbot: max-snippet:0, noai"),
    "googlebot: noindex, bingbot: noai, noimageai",
    *("not-img2dataset: noai", "img2dataset2: noai", "img2dataset: nofollow, otherbot: noai"),
]
# Lines of TDM-Reservation, and whether they reserve.
TDM = [
    *((["1"], True), ([" 1 "], True), (["0", "1"], True)),
    *((["0"], False), (["yes"], False), (["true"], False), ([""], False)),
]
# Lines of Content-Usage, and what in them reserves.
USAGE = [
    *((["train-ai=n"], "train-ai=n"), (["train-ai=n;x=1"], "train-ai=n"), (["search=y, train-ai=n"], "train-ai=n")),
    *((["search=y", "train-ai=n"], "train-ai=n"), (["train-ai=y, train-ai=n"], "train-ai=n"), (["tdm=n"], "tdm=n")),
    *((["TRAIN-AI=n"], None), (["train-ai=N"], None), (["train-ai=?0"], None), (['train-ai="n"'], None)),
    *((["train-ai=n, train-ai=y"], None), (["train-ai=(n)"], None), (["train-ai"], None), (["search=n"], None)),
    *((["train-ai=n,"], None), (["train-ai=n; ä"], None), ([""], None), (["ai=y"], None)),
]
