"""Turns a checkpoint into a forward pass over a flat batch of tokens."""
