"""Ratios against a named floor or peer, in one run; never absolute times. `python -m benchmarks --help`."""
