"""Checkpoints, the numpy definition of the operations, packing, and parity with transformers."""
