"""A worker at a moment, for tests to change."""

from __future__ import annotations

from async_img2ds.policy.limits import Sight

# A worker of one core whose window is full of rows that wait for servers.
WAITING = Sight(
    at=0.0,
    cpu_share=0.2,
    cores=1,
    window=64,
    in_flight=64,
    waiting=500,
    looking_up=0,
    fetching=64,
    transforming=0,
    writing=0,
    bodies=0,
)
