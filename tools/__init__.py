"""Scripts of the house: set-up, generated pages, golden files."""
