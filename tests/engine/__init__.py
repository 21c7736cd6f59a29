"""Tests of the engine, on a toy model that reads its whole history back through the page table."""
