"""Tests of the whole house: what must hold of the real rooms together, on the real default model."""
