"""The prefix cache and the page pool on their own: what is found, what is evicted first, what is left."""

from __future__ import annotations

from array import array

import pytest

from hokku.engine.kv_cache import PageAllocator
from hokku.engine.radix_cache import Node, RadixCache, page_key
from hokku.kernels.program import PAGE_TOKENS


class Cache:
    """A cache whose prompts are words: each letter is a page of equal tokens."""

    def __init__(self, num_pages: int) -> None:
        self.pool = PageAllocator(num_pages)
        self.cache = RadixCache(self.pool)

    def tokens(self, word: str) -> array[int]:
        return array("i", [ord(letter) for letter in word for _ in range(PAGE_TOKENS)])

    def hold(self, word: str, scope: str = "") -> tuple[Node, list[int]]:
        """What a request does from admission to its last page."""
        tokens = self.tokens(word)
        node, pages = self.cache.match_prefix(scope, array("i", [*tokens, 0]))
        self.pool.retain(pages)
        for index in range(len(pages), len(word)):
            self.cache.evict(1 - self.pool.num_free)
            pages.append(self.pool.allocate())
            node = self.cache.insert(node, page_key(tokens, index), pages[-1])
        return node, pages

    def release(self, node: Node, pages: list[int]) -> None:
        self.pool.release(pages)
        self.cache.leave(node)

    def use(self, word: str, scope: str = "") -> None:
        self.release(*self.hold(word, scope))

    def found(self, word: str, scope: str = "") -> str:
        """The cached beginning of the word."""
        return word[: len(self.cache.match_prefix(scope, array("i", [*self.tokens(word), 0]))[1])]


def test_the_longest_run_of_whole_pages_is_found() -> None:
    cache = Cache(8)
    cache.use("abc")
    cache.use("abd")
    assert cache.pool.num_idle == 4
    assert [cache.found(word) for word in ("abcx", "abd", "ax", "b")] == ["abc", "abd", "a", ""]


def test_one_token_is_always_left_to_compute() -> None:
    cache = Cache(8)
    cache.use("ab")
    assert len(cache.cache.match_prefix("", cache.tokens("ab"))[1]) == 1


def test_scopes_have_their_own_trees() -> None:
    cache = Cache(8)
    cache.use("ab", scope="mine")
    assert cache.found("ab", scope="yours") == ""
    cache.use("ab", scope="yours")
    assert cache.pool.num_idle == 4


def test_the_least_recently_used_leaf_goes_first() -> None:
    cache = Cache(8)
    for word in ("ab", "ac", "d", "ab"):
        cache.use(word)
    for survivors in (["ab", "a", "d"], ["ab", "a", ""], ["a", "a", ""], ["", "", ""]):
        cache.cache.evict(1)
        assert [cache.found("ab"), cache.found("ac"), cache.found("d")] == survivors
    assert cache.pool.num_free == 8


def test_a_parent_used_later_outlives_its_child() -> None:
    """`a` was used after `b`, although its only child `x` was not."""
    cache = Cache(8)
    for word in ("ax", "b", "a"):
        cache.use(word)
    cache.cache.evict(2)
    assert [cache.found("ax"), cache.found("b")] == ["a", ""]


def test_pages_in_use_are_never_evicted() -> None:
    cache = Cache(8)
    held = cache.hold("abc")
    cache.use("abd")
    cache.cache.evict(8)
    assert cache.found("abc") == "abc"
    assert cache.pool.num_free == 5
    cache.release(*held)
    cache.cache.evict(8)
    assert cache.pool.num_free == 8


def test_dropping_takes_everything_on_the_same_first_page() -> None:
    cache = Cache(8)
    held = cache.hold("abc")
    cache.use("ad")
    cache.use("e")
    cache.release(*held)
    cache.cache.drop(held[0])
    cache.cache.drop(held[0])
    assert [cache.found("abc"), cache.found("ad"), cache.found("e")] == ["", "", "e"]
    assert cache.pool.num_free == 7


def test_bookkeeping_stays_small_under_steady_hits() -> None:
    cache = Cache(8)
    for _ in range(1000):
        cache.use("ab")
        cache.use("ac")
    assert len(cache.cache._idle_leaves) <= 2 * 3 + 64
    cache.cache.evict(1)
    assert [cache.found("ab"), cache.found("ac")] == ["a", "ac"]


def test_an_exhausted_pool_has_nothing_to_allocate() -> None:
    pool = PageAllocator(2)
    assert {pool.allocate(), pool.allocate()} == {0, 1}
    with pytest.raises(IndexError):
        pool.allocate()
