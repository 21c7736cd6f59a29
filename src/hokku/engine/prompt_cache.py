"""Cache entries: prefixes of prompts that clients asked to keep for a time (wire.md section 6).

Pages are shared silently wherever prompts agree (`radix_cache.py`); an entry is a promise on top of that. It pins the
whole pages of its prefix, so that they outlast pressure from other prompts, until its lifetime has passed without a
request that reads it. What it is found by is a digest of the scope and of every token up to its border, so its end is
exact to the token, while only whole pages are reused.

An entry becomes readable when its writer has computed past the border; requests that arrive before that each write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from hokku.engine.kv_cache import PageAllocator
from hokku.engine.radix_cache import Node, RadixCache
from hokku.engine.request import Request, RunningRequest
from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import CachePoint

Clock = Callable[[], float]  # seconds since 1970


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

    def __init__(self, allocator: PageAllocator, radix: RadixCache, clock: Clock) -> None:
        self._allocator = allocator
        self._radix = radix
        self._clock = clock
        self._entries: dict[bytes, Entry] = {}
        self._pins: dict[Node, Pin] = {}  # least recently used first
        # (expires_at, tie-breaker, entry), earliest first; one for each entry, perhaps with an outdated time.
        self._expiries: list[tuple[float, int, Entry]] = []
        self._tie_breaker = count()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, request: Request) -> int:
        """Where the longest entry that is alive at one of the request's points ends, in tokens; 0 for none.

        The time of all entries found begins anew, from now: the start of the request.
        """
        if not request.cache_keys:
            return 0
        now = request.started_at = self._clock()
        num_read_tokens = 0
        for point, key in zip(request.generation.cache_points, request.cache_keys, strict=True):
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at > now:
                self._renew(entry, point, now)
                num_read_tokens = point.num_tokens
        return num_read_tokens

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
        """Forget the entries whose pages the prefix cache has dropped."""
        for pin in [pin for pin in self._pins.values() if not pin.node.is_cached]:
            self._shed(pin)

    def _write(self, key: bytes, point: CachePoint, lifetime_secs: int, running: RunningRequest) -> None:
        started_at = running.request.started_at
        entry = self._entries.get(key)
        if entry is None:
            pin = self._pin(_ancestor(running.node, point.num_tokens // PAGE_TOKENS))
            pin.keys.add(key)
            entry = Entry(key, lifetime_secs, started_at + lifetime_secs, pin)
            self._entries[key] = entry
            self._watch(entry)
        self._renew(entry, point, started_at)

    def _renew(self, entry: Entry, point: CachePoint, start: float) -> None:
        """Begin an entry's time anew, with the longer of its own lifetime and the point's."""
        entry.lifetime_secs = max(entry.lifetime_secs, point.lifetime_secs or 0)
        entry.expires_at = max(entry.expires_at, start + entry.lifetime_secs)
        self._pins[entry.pin.node] = self._pins.pop(entry.pin.node)

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
        for key in list(pin.keys):
            self._remove(self._entries[key])

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
