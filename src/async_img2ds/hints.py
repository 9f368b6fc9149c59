"""What each reason for a failure means, and what a user can do about it: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FASTER", "HINTS"]

# What limited a run → what would make it faster.
FASTER: Final[Mapping[str, str]] = {
    "CPU": "more cores; or less work an image: smaller --image_size, jpg instead of png or webp, --skip_reencode",
    "network": "more bandwidth, or nearer servers; if latency is the matter, a higher --thread_count",
    "hosts' politeness": "a list of more hosts, well shuffled; or a higher --max_per_host where the hosts are yours",
    "DNS": "a resolver nearby that caches, such as unbound, named by --dns_servers",
    "disk": "a faster disk or store for --output_folder, or more --processes_count for an object store",
    "the list's end": "nothing, if rows were few; else a smaller --number_sample_per_shard, which shares out better",
}

# By the names that stats files have, among which other versions' may be.
HINTS: Final[Mapping[str, str]] = {
    ErrorClass.URL_INVALID: "not a URL: empty, malformed, or not text; for paths of yours see --allow_sources",
    ErrorClass.URL_SCHEME: "only http and https are fetched; --allow_sources opens buckets and folders of yours",
    ErrorClass.DUPLICATE: "the list has the same URL before (--dedupe)",
    ErrorClass.DNS_NXDOMAIN: "the host name no longer exists",
    ErrorClass.DNS_NODATA: "the host name has no address",
    ErrorClass.DNS_SERVFAIL: "the host's name servers are broken; if many, try other --dns_servers",
    ErrorClass.DNS_TIMEOUT: "the host's name servers do not answer; if many, try other --dns_servers",
    ErrorClass.ADDR_BLOCKED: "not a public address; --allow_net opens networks of yours",
    ErrorClass.PORT_BLOCKED: "a port of another service than the web; --allow_net with a port opens one of yours",
    ErrorClass.SOURCE_BLOCKED: "a file or object, but none that --allow_sources names, or no regular file",
    ErrorClass.CONNECT_REFUSED: "nothing listens at the address",
    ErrorClass.CONNECT_TIMEOUT: "the host does not answer; --timeout is how long to wait",
    ErrorClass.CONNECT_UNREACHABLE: "no route to the address; if many, look at your own network (IPv6?)",
    ErrorClass.CONNECT_RESET: "the server closed the connection without an answer",
    ErrorClass.TLS_EXPIRED: (
        "the server's certificate has expired or is not yet valid; if many, look at this machine's clock"
    ),
    ErrorClass.TLS_HOSTNAME: "the server's certificate is for another host",
    ErrorClass.TLS_UNTRUSTED: "the server's certificate is not from a trusted authority",
    ErrorClass.TLS_PROTOCOL: "the server does not speak a TLS that is still accepted",
    ErrorClass.TLS_TIMEOUT: "the server does not finish the TLS handshake; --timeout is how long to wait",
    ErrorClass.HOST_CIRCUIT_OPEN: "not asked, as its host had failed again and again; another day it may be well",
    ErrorClass.HTTP_MALFORMED: "the answer is not HTTP",
    ErrorClass.HTTP_HEADER_LIMIT: "the answer's headers are too long",
    ErrorClass.HTTP_STATUS_4XX: "not there any more, or not for us (404, 403, 410 …)",
    ErrorClass.HTTP_STATUS_5XX: "the server is broken or overloaded",
    ErrorClass.HTTP_RATE_LIMITED: "the server asks for fewer requests; try a --crawl_delay or a --max_rate_per_host",
    ErrorClass.HTTP_UNEXPECTED_STATUS: "an answer that carries no whole image",
    ErrorClass.REDIRECT_LIMIT: "redirects without end",
    ErrorClass.REDIRECT_INVALID: "a redirect to nowhere",
    ErrorClass.REDIRECT_BLOCKED: "a redirect to something that is not fetched",
    ErrorClass.READ_TIMEOUT: "the server went silent; --timeout is how long to wait",
    ErrorClass.TOTAL_TIMEOUT: "too slow; --attempt_timeout_s is how long one attempt may take",
    ErrorClass.TOO_SLOW: "the image came at less than 2 kB a second",
    ErrorClass.BODY_TOO_LARGE: "more bytes than --body_bytes_max",
    ErrorClass.BODY_TRUNCATED: "the connection ended before the image did",
    ErrorClass.BODY_RESET: "the connection was reset before the image had come",
    ErrorClass.BODY_EMPTY: "an answer without a body",
    ErrorClass.CONTENT_ENCODING: "compressed in a way that cannot be undone",
    ErrorClass.OPTOUT_HEADER: "the owner asks not to use it (X-Robots-Tag)",
    ErrorClass.OPTOUT_TDM: "the owner reserves it against data mining (TDM-Reservation, tdmrep.json)",
    ErrorClass.OPTOUT_USAGE: "the owner asks not to train on it (Content-Usage)",
    ErrorClass.OPTOUT_LISTED: "you have said that it is reserved (--optout_col, or refuse in the --hosts_file)",
    ErrorClass.OPTOUT_REMOVED: "removed from the dataset on request (aimg2ds purge)",
    ErrorClass.OPTOUT_ROBOTS: "the site's robots.txt asks not to fetch or use it (--optout strict)",
    ErrorClass.OPTOUT_METADATA: "the image says itself that it is reserved (--optout strict)",
    ErrorClass.ROBOTS_UNREACHABLE: "the site's robots.txt could not be asked, which means no (--optout strict)",
    ErrorClass.HASH_MISMATCH: "the image is not the one that the list knows (verify_hash)",
    ErrorClass.NOT_IMAGE: "not an image: most often a web page",
    ErrorClass.DECODE_ERROR: "a broken image",
    ErrorClass.DECODE_TRUNCATED: "an image that ends too early",
    ErrorClass.DECODE_BOMB: "more pixels than are safe to decode",
    ErrorClass.DECODE_OOM: "not enough memory to decode it",
    ErrorClass.DECODE_UNSUPPORTED: "a format that is not decoded here",
    ErrorClass.DECODE_CRASH: "decoding it ended a process, twice; such an image is worth a report to the image library",
    ErrorClass.DECODE_TIMEOUT: "decoding it did not end",
    ErrorClass.TOO_SMALL: "below --min_image_size",
    ErrorClass.AREA: "above --max_image_area",
    ErrorClass.ASPECT: "above --max_aspect_ratio",
    ErrorClass.BBOX_INVALID: "--bbox_col has no boxes of [x_min, y_min, x_max, y_max], fractions 0 to 1, for it",
    ErrorClass.ENCODE_ERROR: "cannot be stored as --encode_format",
    ErrorClass.INTERNAL: "a defect of this program; the log has its traceback, please report it",
}
