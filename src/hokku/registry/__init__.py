"""Which models there are, where their weights come from, and where they lie on this machine."""
