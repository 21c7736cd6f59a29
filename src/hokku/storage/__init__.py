"""Remembers keys, usage, batches and files in one database: SQLite by default, PostgreSQL by URL.

One schema and one set of statements serve both; what differs is in `database.py`. Nothing here is imported before it is
needed: loading SQLAlchemy takes longer than loading the default model.
"""
