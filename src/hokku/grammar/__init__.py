"""What a reply may be, as a grammar over tokens: JSON of a schema, calls of tools.

A `Grammar` is spelled by whoever knows the form of a reply (`grammar.py`), its schemas are checked and put into the
compiler's subset (`schema.py`), and `compiler.py` makes of it the `TokenConstraint` that the engine's port asks for.
"""
