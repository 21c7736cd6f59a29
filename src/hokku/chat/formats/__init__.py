"""Tool-call formats: one file a family, each with its `FORMATS`; `plain` is for models without one.

Which one a model speaks is not believed but tried out (`choice.py` renders a call with the model's own template).
"""
