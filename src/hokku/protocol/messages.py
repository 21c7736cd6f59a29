"""The Messages request as values: the native form of every conversation in the house (wire.md section 2)."""
