"""However many threads decode, their pixels together are bounded."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from async_img2ds.images.memory import PixelMemory


def test_pixels_of_all_threads_together_are_bounded() -> None:
    """Many small images go at once, large ones one after the other, and what is larger than all goes alone."""
    memory, lock = PixelMemory(100), threading.Lock()
    taken: list[int] = []
    most: list[tuple[int, int]] = []

    def decode(pixels: int) -> None:
        with memory.of(pixels):
            with lock:
                taken.append(min(pixels, 100))
                most.append((sum(taken), len(taken)))
            time.sleep(0.002)
            with lock:
                taken.remove(min(pixels, 100))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(decode, [10, 60, 30, 100, 1, 500, 40, 40] * 20))

    assert max(pixels for pixels, _ in most) <= 100
    assert max(count for _, count in most) > 1


def test_large_image_is_not_passed_by_small_ones_for_ever() -> None:
    """Whoever came first goes first."""
    memory = PixelMemory(100)
    order: list[str] = []
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with memory.of(60):
            held.set()
            release.wait()

    def decode(name: str, pixels: int) -> None:
        with memory.of(pixels):
            order.append(name)

    with ThreadPoolExecutor(3) as threads:
        threads.submit(hold)
        held.wait()
        large = threads.submit(decode, "large", 100)
        while not memory._waiting:
            time.sleep(0.001)
        small = threads.submit(decode, "small", 1)
        time.sleep(0.05)
        assert not small.done()
        release.set()
        large.result()
        small.result()

    assert order == ["large", "small"]
