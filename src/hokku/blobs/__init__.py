"""Keeps large byte strings beside the database: in a directory by default, in S3-compatible storage by URL.

A store knows names of its own making, sizes and digests; what a blob means stands in the database of whoever keeps it.
"""
