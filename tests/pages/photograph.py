"""Make docs/pictures/report.png by ``nox -s pages -- --photograph``: ten million made-up rows, in light and dark.

Its photographs are those of the demo; hosts and figures are nobody's.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from async_img2ds import report
from made_up import made_up

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "report.png"
SIZE = {"width": 900, "height": 1120}
# Which part of the page is shown in which colours.
PARTS = {"light": "top", "dark": "samples"}
# So many colours keep the picture below 200 kB, and hardly anybody sees it.
COLOURS = 160


def main() -> None:
    """Make the picture."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        dataset = made_up(Path(folder) / "holidays", 1000)
        report(str(dataset), progress="none")
        # Not where it happens to lie on this machine.
        page_file = dataset / "_report.html"
        page_file.write_text(page_file.read_text().replace(str(dataset), "s3://bucket/holidays"))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        sheet = Image.new("RGB", (len(PARTS) * SIZE["width"], SIZE["height"]))
        for at, (scheme, part) in enumerate(PARTS.items()):
            how: dict[str, Any] = {"color_scheme": scheme, "viewport": SIZE, "reduced_motion": "reduce"}
            page = browser.new_context(**how).new_page()
            page.goto(page_file.as_uri())
            if part != "top":
                page.evaluate(f"document.getElementById('{part}').scrollIntoView()")
            page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
            shot = Image.open(io.BytesIO(page.screenshot()))
            sheet.paste(shot.convert("RGB"), (at * SIZE["width"], 0))
        browser.close()
    PICTURE.parent.mkdir(exist_ok=True)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
