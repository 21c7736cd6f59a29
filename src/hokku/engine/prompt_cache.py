"""Cache entries: prefixes of prompts that clients asked to keep for a time (wire.md section 6).

Pages are shared silently wherever prompts agree (`radix_cache.py`); an entry is a promise on top of that. It pins the
whole pages of its prefix, so that they outlast pressure from other prompts, until its lifetime has passed without a
request that reads it. What it is found by is a digest of the scope and of every token up to its border, so its end is
exact to the token, while only whole pages are reused.

An entry becomes readable when its writer has computed past the border; requests that arrive before that each write.

Where memory is short, the entry least recently used gives its pages up and lives on in `shelf.py`, on disk; one of an
hour or more is written there at once. A request that wants such an entry waits for it outside the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final

from hokku.engine.kv_cache import PageAllocator
from hokku.engine.radix_cache import Node, RadixCache, page_key
from hokku.engine.request import Request, RunningRequest
from hokku.engine.shelf import Shelf
from hokku.engine.shelf_file import Bytes
from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import CachePoint

Clock = Callable[[], float]  # seconds since 1970

# Entries that live this long are stored at once, so that they outlast a restart.
_STORED_AT_ONCE_SECS: Final = 3600


@dataclass(slots=True, eq=False)
class Pin:
    """Whole pages kept for the entries that end in or right behind the last of them."""

    node: Node
    pages: list[int]  # from the first of the prompt to the node's
    keys: set[bytes] = field(default_factory=set)  # its entries


@dataclass(slots=True, eq=False)
class Entry:
    """One cached prefix."""

    key: bytes
    lifetime_secs: int
    expires_at: float
    pin: Pin


class PromptCache:
    """Finds, keeps and sheds entries. Owned by the scheduler's thread."""

    def __init__(
        self, allocator: PageAllocator, radix: RadixCache, clock: Clock, shelf: Shelf | None = None
    ) -> None:
        self._allocator = allocator
        self._radix = radix
        self._clock = clock
        self._shelf = shelf
        self._entries: dict[bytes, Entry] = {}
        self._pins: dict[Node, Pin] = {}  # least recently used first
        # (expires_at, tie-breaker, entry), earliest first; one for each entry, perhaps with an outdated time.
        self._expiries: list[tuple[float, int, Entry]] = []
        self._tie_breaker = count()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, request: Request, node: Node) -> int:
        """Where the longest entry that is alive at one of the request's points ends, in tokens; 0 for none.

        The time of all entries found begins anew, from now: the start of the request, whose cursor is `node`.
        """
        if not request.cache_keys:
            return 0
        now = request.started_at = self._clock()
        num_read_tokens = 0
        for point, key in zip(request.generation.cache_points, request.cache_keys, strict=True):
            entry = self._alive(key, now) or self._taken_back(key, point, node)
            if entry is not None:
                self._renew(entry, point, now)
                num_read_tokens = point.num_tokens
        return num_read_tokens

    def load_missing(self, request: Request) -> bool:
        """Ask the shelf for the longest entry that the request could read, if that is not in memory. Whether it was
        asked: `install` comes later."""
        if self._shelf is None or not request.cache_keys or request.has_loaded:
            return False
        now = self._clock()
        points = request.generation.cache_points
        node: Node | None = None
        for point, key in zip(reversed(points), reversed(request.cache_keys), strict=True):
            if self._alive(key, now):
                return False
            if self._shelf.find(key):
                if node is None:
                    node, _ = self._radix.match_prefix(request.generation.cache_scope, request.tokens)
                if node.depth >= point.num_tokens // PAGE_TOKENS:
                    return False  # the pages are still there: `read` takes the entry back
                request.awaited_key = key
                self._shelf.load(key)
                return True
        return False

    def install(self, request: Request, pages: Bytes | None) -> None:
        """Take in what the shelf found for a request, if there is room for it; nobody is preempted for that."""
        key, request.awaited_key = request.awaited_key, None
        if pages is None or key is None or self._shelf is None:
            return
        request.has_loaded = True
        header = self._shelf.find(key)
        if header is None or self._alive(key, self._clock()):
            return
        node, held = self._radix.match_prefix(request.generation.cache_scope, request.tokens)
        self._allocator.retain(held)
        num_missing = len(pages) - len(held)
        if num_missing > 0 and self.make_room(num_missing):
            self._radix.evict(num_missing - self._allocator.num_free)
            added = [self._allocator.allocate() for _ in range(num_missing)]
            self._shelf.pages.write_pages(added, pages[len(held) :])
            for index, page in enumerate(added, len(held)):
                node = self._radix.insert(node, page_key(request.tokens, index), page)
            held += added
        if node.depth >= len(pages):
            self._add(key, header.lifetime_secs, header.expires_at, _ancestor(node, len(pages)))
        self._allocator.release(reversed(held))
        self._radix.leave(node)

    def write(self, running: RunningRequest) -> None:
        """Write the entries whose borders the request's prefill has passed by now."""
        request = running.request
        points = request.generation.cache_points
        while request.num_points_passed < len(points):
            point = points[request.num_points_passed]
            if point.num_tokens > running.num_computed:
                break
            if point.lifetime_secs is not None and point.num_tokens >= PAGE_TOKENS:
                key = request.cache_keys[request.num_points_passed]
                self._write(key, point, point.lifetime_secs, running)
            request.num_points_passed += 1

    def expire(self) -> None:
        """Let go of all entries whose time is over."""
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            entry = heappop(self._expiries)[2]
            if self._entries.get(entry.key) is not entry:
                continue
            if entry.expires_at <= now:
                self._remove(entry)
            else:
                self._watch(entry)

    def make_room(self, num_pages: int) -> bool:
        """See that `num_pages` pages are available, if need be by shedding the entries least recently used; nothing is
        shed where that would not suffice. Whether they are available now."""
        if self._allocator.num_available + self._allocator.num_pinned < num_pages:
            return False
        while self._allocator.num_available < num_pages:
            self._shed(self._least_recently_used())
        return True

    def forget_dropped(self) -> None:
        """Forget the entries whose pages the prefix cache has dropped, on disk as well."""
        for pin in [pin for pin in self._pins.values() if not pin.node.is_cached]:
            for key in list(pin.keys):
                self._remove(self._entries[key])
                if self._shelf:
                    self._shelf.remove(key)

    def _write(self, key: bytes, point: CachePoint, lifetime_secs: int, running: RunningRequest) -> None:
        started_at = running.request.started_at
        entry = self._entries.get(key)
        if entry is None:
            node = _ancestor(running.node, point.num_tokens // PAGE_TOKENS)
            entry = self._add(key, lifetime_secs, started_at + lifetime_secs, node)
        self._renew(entry, point, started_at)
        if lifetime_secs >= _STORED_AT_ONCE_SECS:
            self._store(entry)

    def _alive(self, key: bytes, now: float) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires_at > now else None

    def _taken_back(self, key: bytes, point: CachePoint, node: Node) -> Entry | None:
        """An entry that is on the shelf only, while its pages are still shared on the path to `node`."""
        depth = point.num_tokens // PAGE_TOKENS
        header = self._shelf.find(key) if self._shelf and 0 < depth <= node.depth else None
        if header is None:
            return None
        return self._add(key, header.lifetime_secs, header.expires_at, _ancestor(node, depth))

    def _add(self, key: bytes, lifetime_secs: int, expires_at: float, node: Node) -> Entry:
        outdated = self._entries.get(key)
        if outdated is not None:
            self._remove(outdated)
        pin = self._pin(node)
        pin.keys.add(key)
        entry = self._entries[key] = Entry(key, lifetime_secs, expires_at, pin)
        self._watch(entry)
        return entry

    def _renew(self, entry: Entry, point: CachePoint, start: float) -> None:
        """Begin an entry's time anew, with the longer of its own lifetime and the point's."""
        entry.lifetime_secs = max(entry.lifetime_secs, point.lifetime_secs or 0)
        entry.expires_at = max(entry.expires_at, start + entry.lifetime_secs)
        self._pins[entry.pin.node] = self._pins.pop(entry.pin.node)
        if self._shelf:
            self._shelf.renew(entry.key, entry.lifetime_secs, entry.expires_at)

    def _watch(self, entry: Entry) -> None:
        heappush(self._expiries, (entry.expires_at, next(self._tie_breaker), entry))

    def _pin(self, node: Node) -> Pin:
        pin = self._pins.get(node)
        if pin is None:
            pin = self._pins[node] = Pin(node, [each.page for each in node.path()])
            self._allocator.pin(pin.pages)
        return pin

    def _least_recently_used(self) -> Pin:
        """Of the pins whose end frees a page, and there must be one, the least recently used.

        Requests and pins hold whole paths from the root, so a pin frees a page exactly if it frees its last one.
        """
        return next(pin for pin in self._pins.values() if self._allocator.has_lone_pin(pin.node.page))

    def _shed(self, pin: Pin) -> None:
        """Give a pin's pages up; its entries live on, on disk."""
        for key in list(pin.keys):
            self._store(self._entries[key])
            self._remove(self._entries[key])

    def _store(self, entry: Entry) -> None:
        if self._shelf and entry.expires_at > self._clock() and not self._shelf.find(entry.key):
            pages = self._shelf.pages.read_pages(entry.pin.pages)
            self._shelf.store(entry.key, entry.lifetime_secs, entry.expires_at, pages)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.key]
        pin = entry.pin
        pin.keys.remove(entry.key)
        if not pin.keys:
            del self._pins[pin.node]
            self._allocator.unpin(reversed(pin.pages))
            self._radix.leave(pin.node)


def _ancestor(node: Node, depth: int) -> Node:
    while node.depth > depth and node.parent:
        node = node.parent
    return node
