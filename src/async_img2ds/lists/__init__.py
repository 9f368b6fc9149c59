"""Work on a list before it is fetched."""
