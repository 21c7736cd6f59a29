"""The page allocator: which pages of the key/value memory are free, in use by requests, pinned by cache entries, or
kept by the prefix cache.

Only page numbers live here; the memory itself belongs to the program. A page is in one of four states:

    free      nobody needs its content
    in use    one or more requests hold it (and others below may want it as well)
    pinned    no request holds it, but cache entries do (`prompt_cache.py`)
    idle      only the prefix cache keeps it, so it can be reclaimed

Idle pages that only requests of batches have used are also counted by themselves: the prefix cache bounds them.
"""

from __future__ import annotations

from collections.abc import Iterable


class PageAllocator:
    """Counts references to pages. Every operation is O(1) a page."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self.num_idle = 0
        self.num_idle_of_batches = 0  # of those
        self.num_pinned = 0
        self._free = list(range(num_pages - 1, -1, -1))  # a stack: the page freed last is the warmest
        self._num_users = [0] * num_pages  # requests
        self._num_pins = [0] * num_pages  # cache entries' pins
        self._cached = bytearray(num_pages)
        self._of_batches = bytearray(num_pages)  # counts for cached pages alone

    @property
    def num_free(self) -> int:
        """Pages nobody needs."""
        return len(self._free)

    @property
    def num_available(self) -> int:
        """Pages a request could have: the free ones, and the idle ones once evicted."""
        return len(self._free) + self.num_idle

    def in_use(self, page: int) -> bool:
        """Whether a request or a pin holds the page."""
        return self._num_users[page] > 0 or self._num_pins[page] > 0

    def has_lone_pin(self, page: int) -> bool:
        """Whether exactly one pin and no request holds the page."""
        return self._num_users[page] == 0 and self._num_pins[page] == 1

    def allocate(self) -> int:
        """Take a free page for one request. There must be one."""
        page = self._free.pop()
        self._num_users[page] = 1
        return page

    def retain(self, pages: Iterable[int]) -> None:
        """One more request holds these pages, which are cached or in use."""
        for page in pages:
            if not self._num_users[page]:
                self._leave_rest(page)
            self._num_users[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """One request fewer holds these pages; those that nobody needs become free, the others pinned or idle."""
        for page in pages:
            self._num_users[page] -= 1
            if not self._num_users[page]:
                self._come_to_rest(page)

    def pin(self, pages: Iterable[int]) -> None:
        """One more pin holds these pages, which the prefix cache keeps."""
        self._change_pins(pages, 1)

    def unpin(self, pages: Iterable[int]) -> None:
        """One pin fewer holds these pages."""
        self._change_pins(pages, -1)

    def keep(self, page: int, *, for_batches: bool = False) -> None:
        """The prefix cache keeps this page, which a request holds; perhaps for requests of batches alone."""
        self._cached[page] = 1
        self._of_batches[page] = for_batches

    def forget(self, page: int) -> None:
        """The prefix cache no longer keeps this page."""
        at_rest = not self.in_use(page)
        if at_rest:
            self._leave_rest(page)
        self._cached[page] = 0
        if at_rest:
            self._come_to_rest(page)

    # A page that no request holds is counted as what it then is; one that is free has no reason to leave.

    def _change_pins(self, pages: Iterable[int], by: int) -> None:
        for page in pages:
            at_rest = not self._num_users[page]
            if at_rest:
                self._leave_rest(page)
            self._num_pins[page] += by
            if at_rest:
                self._come_to_rest(page)

    def _come_to_rest(self, page: int) -> None:
        if self._num_pins[page]:
            self.num_pinned += 1
        elif self._cached[page]:
            self.num_idle += 1
            self.num_idle_of_batches += self._of_batches[page]
        else:
            self._free.append(page)

    def _leave_rest(self, page: int) -> None:
        if self._num_pins[page]:
            self.num_pinned -= 1
        else:
            self.num_idle -= 1
            self.num_idle_of_batches -= self._of_batches[page]
