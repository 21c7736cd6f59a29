"""Tests of benchmarks/: its arithmetic and its tables; nothing here is timed."""
