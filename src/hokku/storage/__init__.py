"""Remembers keys, usage, batches and files in one database: SQLite by default, PostgreSQL by URL.

One schema and one set of statements serve both; what differs is in `database.py`. Nothing here is imported before it is
needed: loading SQLAlchemy would take a fifth of a second of every start.
"""
