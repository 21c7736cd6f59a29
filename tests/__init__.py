"""One folder a room; the default run needs no network and no weights."""
