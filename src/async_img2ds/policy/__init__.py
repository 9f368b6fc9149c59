"""Decisions, each a plain function of its arguments: no socket, file, loop, clock or chance in here."""
