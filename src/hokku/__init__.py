"""Hokku: a drop-in home for code written for Claude 3.5 Haiku."""
