"""Both databases, as the tests of storage have them."""

from tests.storage.conftest import postgres, url

__all__ = ["postgres", "url"]
