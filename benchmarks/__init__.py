"""Hokku beside other engines on this machine: `python -m benchmarks`, or `make bench`."""
