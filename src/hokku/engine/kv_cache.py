"""The page allocator: which pages of the key/value memory are free, in use by requests, or kept by the prefix
cache.

Only page numbers live here; the memory itself belongs to the program. A page is in one of three states:

    free      nobody needs its content
    in use    one or more requests hold it (and the prefix cache may keep it as well)
    idle      only the prefix cache keeps it, so it can be reclaimed
"""

from __future__ import annotations

from collections.abc import Iterable


class PageAllocator:
    """Counts references to pages. Every operation is O(1) a page."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self.num_idle = 0
        self._free = list(range(num_pages - 1, -1, -1))  # a stack: the page freed last is the warmest
        self._num_users = [0] * num_pages
        self._cached = bytearray(num_pages)

    @property
    def num_free(self) -> int:
        """Pages nobody needs."""
        return len(self._free)

    @property
    def num_available(self) -> int:
        """Pages a request could have: the free ones, and the idle ones once evicted."""
        return len(self._free) + self.num_idle

    def in_use(self, page: int) -> bool:
        """Whether a request holds the page."""
        return self._num_users[page] > 0

    def allocate(self) -> int:
        """Take a free page for one request. There must be one."""
        page = self._free.pop()
        self._num_users[page] = 1
        return page

    def retain(self, pages: Iterable[int]) -> None:
        """One more request holds these pages, which are cached or in use."""
        for page in pages:
            if not self._num_users[page]:
                self.num_idle -= 1
            self._num_users[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """One request fewer holds these pages; those that nobody needs become free, cached ones idle."""
        for page in pages:
            self._num_users[page] -= 1
            if not self._num_users[page]:
                if self._cached[page]:
                    self.num_idle += 1
                else:
                    self._free.append(page)

    def keep(self, page: int) -> None:
        """The prefix cache keeps this page, which is in use."""
        self._cached[page] = 1

    def forget(self, page: int) -> None:
        """The prefix cache no longer keeps this page."""
        self._cached[page] = 0
        if not self._num_users[page]:
            self.num_idle -= 1
            self._free.append(page)
