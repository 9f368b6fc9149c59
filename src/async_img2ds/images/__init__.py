"""From the bytes of a body to the image of a sample."""
