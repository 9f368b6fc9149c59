"""``python -m async_img2ds`` is ``aimg2ds``."""

from async_img2ds.cli import main

if __name__ == "__main__":
    main()
