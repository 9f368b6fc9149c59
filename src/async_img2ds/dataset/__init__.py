"""Work on a dataset that is there already, without the web."""
