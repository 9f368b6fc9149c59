"""Samples handed to a program as they are made, and no files."""
