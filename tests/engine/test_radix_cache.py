"""The prefix cache and the page pool on their own: what is found, what is evicted first, what is left."""

from __future__ import annotations

from array import array

import pytest

from hokku.engine.kv_cache import PageAllocator
from hokku.engine.radix_cache import Node, RadixCache, page_key
from hokku.kernels.program import PAGE_TOKENS


class Cache:
    """A cache whose prompts are words: each letter is a page of equal tokens."""

    def __init__(self, num_pages: int, max_idle_batch_pages: int = 1000) -> None:
        self.pool = PageAllocator(num_pages)
        self.cache = RadixCache(self.pool, max_idle_batch_pages)

    def tokens(self, word: str) -> array[int]:
        return array("i", [ord(letter) for letter in word for _ in range(PAGE_TOKENS)])

    def hold(self, word: str, scope: str = "", *, for_batch: bool = False) -> tuple[Node, list[int]]:
        """What a request does from admission to its last page."""
        tokens = self.tokens(word)
        node, pages = self.cache.match_prefix(scope, array("i", [*tokens, 0]))
        self.pool.retain(pages)
        if not for_batch:
            self.cache.claim(node)
        for index in range(len(pages), len(word)):
            self.cache.evict(1 - self.pool.num_free)
            pages.append(self.pool.allocate())
            node = self.cache.insert(node, page_key(tokens, index), pages[-1], for_batch=for_batch)
        return node, pages

    def release(self, node: Node, pages: list[int]) -> None:
        self.pool.release(pages)
        self.cache.leave(node)

    def use(self, word: str, scope: str = "", *, for_batch: bool = False) -> None:
        self.release(*self.hold(word, scope, for_batch=for_batch))

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


@pytest.mark.parametrize(
    ("most", "survivors"),
    [
        (5, ["abc", "abd", "abe"]),
        (4, ["ab", "abd", "abe"]),
        (3, ["ab", "ab", "abe"]),
        (1, ["a", "a", "a"]),
        (0, ["", "", ""]),
    ],
)
def test_what_batches_leave_is_bounded_and_the_least_recently_used_goes_first(
    most: int, survivors: list[str]
) -> None:
    cache = Cache(20, most)
    held = [cache.hold(word, for_batch=True) for word in ("abc", "abd", "abe")]
    cache.use("xyz")
    for each in held:
        cache.release(*each)
    assert cache.pool.num_idle_of_batches == most
    assert [cache.found("abc"), cache.found("abd"), cache.found("abe")] == survivors
    assert cache.found("xyz") == "xyz"
    assert cache.pool.num_free == 17 - most


def test_what_somebody_has_used_since_is_no_longer_the_batch_s() -> None:
    cache = Cache(20, 2)
    held = cache.hold("abcd", for_batch=True)
    cache.use("abx")
    cache.release(*held)
    assert cache.pool.num_idle_of_batches == 2
    cache.use("abxy", for_batch=True)
    assert [cache.found("abcd"), cache.found("abxy")] == ["abc", "abxy"]
    cache.cache.evict(2)  # the batch's pages first, although they are the latest
    assert [cache.found("abcd"), cache.found("abxy")] == ["ab", "abx"]
    cache.cache.evict(3)
    assert cache.pool.num_free == 20


def test_pages_of_a_batch_that_are_in_use_are_kept() -> None:
    cache = Cache(8, 0)
    held = cache.hold("abc", for_batch=True)
    cache.use("abd", for_batch=True)
    assert [cache.found("abc"), cache.found("abd")] == ["abc", "ab"]
    cache.release(*held)
    assert cache.pool.num_free == 8


def test_an_exhausted_pool_has_nothing_to_allocate() -> None:
    pool = PageAllocator(2)
    assert {pool.allocate(), pool.allocate()} == {0, 1}
    with pytest.raises(IndexError):
        pool.allocate()
