"""The prefix cache: a radix tree of the pages already computed, one root a cache scope.

A node is one whole page, found by the 16 token ids it holds after those of its ancestors; so a path from a
root spells a prefix (Zheng et al. 2024, SGLang, calls this RadixAttention). A request that runs keeps a
cursor, the node of its deepest cached page, and holds every page on the way there. Hence a page in use
protects all its ancestors, a page not in use has only idle descendants, and eviction may take idle leaves,
least recently used first, one by one.

A batch never ends a conversation that somebody may go on with, and may have more requests than there are pages. What
only batches have used is therefore bounded (`trim`): enough for what their requests have in common.
"""

from __future__ import annotations

from array import array
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from hokku.engine.kv_cache import PageAllocator
from hokku.kernels.program import PAGE_TOKENS

_NO_PAGE: Final = -1


class Node:
    """One cached page, or the root of a scope, which has none."""

    __slots__ = ("children", "depth", "key", "last_used", "of_batches", "page", "parent")

    def __init__(self, parent: Node | None, key: bytes, page: int, *, of_batches: bool = False) -> None:
        self.parent = parent
        self.key = key
        self.page = page
        self.depth: int = parent.depth + 1 if parent else 0  # pages from the root to here
        self.children: dict[bytes, Node] = {}
        self.last_used = 0
        self.of_batches = (
            of_batches  # only requests of batches have used it; then so it is with its descendants
        )

    @property
    def is_cached(self) -> bool:
        """Whether it still stands for a page: not a root, not evicted or dropped."""
        return self.page != _NO_PAGE

    def path(self) -> list[Node]:
        """The nodes from the first page to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.depth:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


def page_key(tokens: array[int], index: int) -> bytes:
    """The token ids of a request's page number `index`, as a key of the tree."""
    return tokens[index * PAGE_TOKENS : (index + 1) * PAGE_TOKENS].tobytes()


class RadixCache:
    """Finds, keeps and evicts computed pages. Work is proportional to the pages touched.

    Args:
        allocator: knows who needs which page.
        max_idle_batch_pages: most idle pages that are kept although only batches have used them.
    """

    def __init__(self, allocator: PageAllocator, max_idle_batch_pages: int) -> None:
        self._allocator = allocator
        self._max_idle_batch_pages = max_idle_batch_pages
        self._roots: dict[str, Node] = {}
        self._num_nodes = 0
        self._clock = count(1)
        # Idle leaves, oldest first, as (last_used, tie-breaker, node). Entries go stale when their node is
        # used again or removed; they are skipped when met and swept when they become the majority.
        self._idle_leaves: list[tuple[int, int, Node]] = []
        self._idle_leaves_of_batches: list[tuple[int, int, Node]] = []
        self._tie_breaker = count()

    def match_prefix(self, scope: str, tokens: array[int]) -> tuple[Node, list[int]]:
        """The longest cached run of whole pages that leaves at least one token to compute: the node it ends
        at and its pages. The caller retains the pages before anything may be evicted."""
        node = self._roots.setdefault(scope, Node(None, b"", _NO_PAGE))
        pages: list[int] = []
        for index in range((len(tokens) - 1) // PAGE_TOKENS):
            child = node.children.get(page_key(tokens, index))
            if child is None:
                break
            pages.append(child.page)
            node = child
        return node, pages

    def insert(self, node: Node, key: bytes, page: int, *, for_batch: bool = False) -> Node:
        """The child of `node` under `key`: the one already there, else a new one that keeps `page`."""
        child = node.children.get(key)
        if child is None:
            child = node.children[key] = Node(node, key, page, of_batches=for_batch)
            self._allocator.keep(page, for_batches=for_batch)
            self._num_nodes += 1
        return child

    def claim(self, node: Node) -> None:
        """An interactive request, which holds the path to `node`, uses it: it is no longer of batches alone."""
        while node.of_batches and node.parent:
            node.of_batches = False
            self._allocator.keep(node.page)
            node = node.parent

    def leave(self, node: Node) -> None:
        """A request whose cursor was `node`, or a pin on it, has just released its pages."""
        node.last_used = next(self._clock)
        self._offer(node)
        self._trim()

    def evict(self, num_pages: int) -> None:
        """Free up to `num_pages` idle pages, the least recently used first, those of batches before all others."""
        for idle_leaves in (self._idle_leaves_of_batches, self._idle_leaves):
            while num_pages > 0 and idle_leaves:
                num_pages -= self._evict_from(idle_leaves)

    def _trim(self) -> None:
        while self._allocator.num_idle_of_batches > self._max_idle_batch_pages:
            self._evict_from(self._idle_leaves_of_batches)

    def _evict_from(self, idle_leaves: list[tuple[int, int, Node]]) -> bool:
        """Take the next entry; whether it freed a page."""
        entry = heappop(idle_leaves)
        if not self._is_current(entry):
            return False
        self._remove_leaf(entry[2])
        return True

    def drop(self, node: Node) -> None:
        """Forget everything that shares its first page with the path to `node`."""
        if node.page == _NO_PAGE:
            return
        while node.depth > 1 and node.parent:
            node = node.parent
        if node.parent:
            del node.parent.children[node.key]
        doomed = [node]
        while doomed:
            node = doomed.pop()
            doomed.extend(node.children.values())
            self._forget(node)

    def _offer(self, node: Node) -> None:
        entry = (node.last_used, next(self._tie_breaker), node)
        if self._is_current(entry):
            idle_leaves = self._idle_leaves_of_batches if node.of_batches else self._idle_leaves
            heappush(idle_leaves, entry)
            if len(idle_leaves) > 2 * self._num_nodes + 64:
                idle_leaves[:] = [entry for entry in idle_leaves if self._is_current(entry)]
                heapify(idle_leaves)

    def _is_current(self, entry: tuple[int, int, Node]) -> bool:
        last_used, _, node = entry
        is_idle_leaf = node.page != _NO_PAGE and not node.children and not self._allocator.in_use(node.page)
        return is_idle_leaf and node.last_used == last_used

    def _remove_leaf(self, node: Node) -> None:
        self._forget(node)
        parent = node.parent
        if parent:
            del parent.children[node.key]
            # Whoever used the child used its parent: times travel up only now, so that using a path is O(1).
            parent.last_used = max(parent.last_used, node.last_used)
            self._offer(parent)

    def _forget(self, node: Node) -> None:
        self._allocator.forget(node.page)
        node.page = _NO_PAGE
        self._num_nodes -= 1
