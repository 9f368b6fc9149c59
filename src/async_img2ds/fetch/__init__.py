"""From a URL to the bytes behind it."""
