"""The formats a shard can be written in: one module each, and the table of them."""
