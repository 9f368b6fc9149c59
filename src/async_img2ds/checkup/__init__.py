"""Whether a machine is fit for a run: each thing measured within a few seconds, and judged by policy/findings.py."""
