"""Stop 5 of 8, the scheduler. Down: a request comes from `engine.py`, gets its prefix matched, a slot and
pages, and then a chunk of each step that `model_runner.py` runs. Up: each drawn token is appended, finished
pages go to the prefix cache, and whoever is done frees its place.

The policy, all of it here:

- Ranks: interactive before batch, then by arrival. Waiting requests are admitted strictly in that order. Those that
  could not be for too long (`max_wait_secs`) are ended, before anything has been computed for them: so however many
  come, the work goes into replies that somebody still waits for. Batch requests wait as long as it takes.
- Admission takes pages for all known tokens at once, and leaves one page for each request already running, so
  that a newcomer is not preempted by the next few decodes. An interactive newcomer preempts batch requests to
  get in.
- A prefill stops before a picture that has not been encoded yet; one tile is encoded before each step
  (`vision.py`).
- A step holds one token of every decode, then prefill chunks from what is left of the token budget. A small step
  also tries drafts of what its decodes may draw next (`speculation.py`).
- Batch requests have no part in a step in which an interactive prompt is read, and in others only so many rows that
  the step stays short (`batch_share.py`), for the next interactive request has to wait for its end.
- Cache entries (`prompt_cache.py`) give their pages up before anybody is refused or preempted for want of them.
- What only batches have computed leaves the prefix cache soon, and gives its pages to the next requests: memory that
  nobody has touched yet is for those who may come back to their conversation.
- When a decode needs a page and none is to be had, the running request of the worst rank is preempted. The
  best one therefore always advances, and since a window never exceeds the pool, everybody ends.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile, zip_longest
from time import monotonic, time
from typing import Final

from hokku.engine.batch_share import BatchShare
from hokku.engine.config import EngineConfig
from hokku.engine.constraint import follow
from hokku.engine.kv_cache import PageAllocator
from hokku.engine.prompt_cache import Clock, PromptCache
from hokku.engine.radix_cache import Node, RadixCache, page_key
from hokku.engine.request import Chunk, Request, RunningRequest
from hokku.engine.shelf import Shelf
from hokku.engine.shelf_file import Bytes
from hokku.engine.speculation import Speculator
from hokku.engine.vision import Eyes
from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import (
    EngineEvent,
    EngineStats,
    Failed,
    Finished,
    FinishReason,
    Priority,
    Started,
    Tokens,
)
from hokku.protocol.errors import EngineFailed, RequestError, WaitedTooLong

# What a prefill behind the oldest one gets of a step, while half of the prefill budget lasts: a short prompt
# then starts within a few steps of a long one, and the long one still moves at half speed or better.
_MIN_CHUNK_TOKENS: Final = 2 * PAGE_TOKENS


class Scheduler:
    """Decides who runs. Owned by one thread; `outbox` collects the events to hand out.

    Args:
        config: the engine's limits.
        clock: seconds since 1970, which cache entries live by.
        shelf: where cache entries go when memory is short.
        wait_clock: seconds that never jump, which waiting is measured by.
        eyes: what sees pictures; without them no request has any.
    """

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock = time,
        shelf: Shelf | None = None,
        wait_clock: Clock = monotonic,
        eyes: Eyes | None = None,
    ) -> None:
        self.outbox: list[tuple[Request, EngineEvent]] = []
        self._config = config
        self._wait_clock = wait_clock
        self._allocator = PageAllocator(config.num_pages)
        self._cache = RadixCache(self._allocator, config.max_idle_batch_pages)
        self._entries = PromptCache(self._allocator, self._cache, clock, shelf)
        self._waiting: dict[Priority, deque[Request]] = {priority: deque() for priority in sorted(Priority)}
        self._loading: list[Request] = []  # wait for the shelf, outside the queues
        self._running: list[RunningRequest] = []  # best rank first
        self._free_slots = list(range(config.max_running - 1, -1, -1))
        self._eyes = eyes
        self._speculator = Speculator(config.max_speculative_rows)
        self._batch_share = BatchShare(
            config.batch_step_secs, config.lone_batch_step_secs, config.max_step_tokens
        )
        self._num_steps = 0
        self._num_drafted = 0
        self._num_accepted = 0
        self._num_prompt_tokens = 0
        self._num_prompt_tokens_cached = 0

    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._running) or any(self._waiting.values())

    def stats(self) -> EngineStats:
        """Counts as of now."""
        return EngineStats(
            num_waiting=sum(map(len, self._waiting.values())) + len(self._loading),
            num_running=len(self._running),
            num_pages=self._allocator.num_pages,
            num_pages_free=self._allocator.num_free,
            num_pages_cached=self._allocator.num_idle,
            num_pages_pinned=self._allocator.num_pinned,
            num_cache_entries=len(self._entries),
            num_steps=self._num_steps,
            num_drafted=self._num_drafted,
            num_accepted=self._num_accepted,
            num_prompt_tokens=self._num_prompt_tokens,
            num_prompt_tokens_cached=self._num_prompt_tokens_cached,
        )

    def add(self, request: Request) -> None:
        """Queue a new request by its rank, with the tokens that its constraint forces at the start; or let it wait for
        a cache entry that is on disk."""
        request.queued_at = self._wait_clock()
        try:
            follow(request, (), self._config.vocabulary)
        except (EngineFailed, RequestError) as error:
            self._conclude(request, Failed(error))
        else:
            self._enqueue(request)

    def take_loaded(self, key: bytes, pages: Bytes | None) -> None:
        """The shelf has read an entry, or has not: those who wait for it go on."""
        waiting = [request for request in self._loading if request.awaited_key == key]
        for request in waiting:
            self._loading.remove(request)
            self._entries.install(request, pages)
            self._enqueue(request)

    def end(self, request: Request, event: Finished | Failed) -> None:
        """End a request wherever it is, freeing what it holds; nothing happens if it has ended before."""
        if request.ended:
            return
        for running in self._running:
            if running.request is request:
                self._release(running)
                break
        else:
            is_loading = request in self._loading
            queue = self._loading if is_loading else self._waiting[request.generation.priority]
            queue.remove(request)
        self._conclude(request, event)

    def end_all(self, event: Finished | Failed) -> None:
        """End everything, waiting and running."""
        waiting = [request for queue in self._waiting.values() for request in queue]
        for request in [*self._loading, *waiting, *(running.request for running in self._running)]:
            self.end(request, event)

    def schedule(self) -> list[Chunk]:
        """Who computes which tokens in the coming step; at least one chunk if there is work, unless somebody's picture
        could not be encoded."""
        self._entries.expire()
        self._grow()
        self._admit()
        self._refuse_overdue()
        self._look()
        return self._plan()

    def complete(self, chunks: Sequence[Chunk], drawn: Iterator[int], seconds: float) -> None:
        """Take in a step's results: the drawn tokens of each chunk that samples, in order, and how long it took."""
        self._num_steps += 1
        self._speculator.learn(chunks, seconds)
        num_batch_rows = sum(chunk.num_rows for chunk in chunks if _is_of_batch(chunk.running))
        self._batch_share.learn(num_batch_rows, sum(chunk.num_rows for chunk in chunks), seconds)
        for chunk in chunks:
            running = chunk.running
            running.num_computed = chunk.end
            running.forget_computed_tiles()
            last_event = self._append(chunk, list(islice(drawn, chunk.num_draws)))
            if running.num_computed >= (running.node.depth + 1) * PAGE_TOKENS:
                self._cache_pages(running)
            self._entries.write(running)
            if last_event:
                self._release(running)
                self._conclude(running.request, last_event)

    def fail_step(self, error: EngineFailed) -> None:
        """The step broke: end all running requests and trust none of the pages they shared."""
        self._num_steps += 1
        cursors = [running.node for running in self._running]
        for running in list(self._running):
            self.end(running.request, Failed(error))
        for node in cursors:
            self._cache.drop(node)
        self._entries.forget_dropped()

    def _enqueue(self, request: Request) -> None:
        if self._entries.load_missing(request):
            self._loading.append(request)
        else:
            self._queue(request)

    def _queue(self, request: Request) -> None:
        insort(self._waiting[request.generation.priority], request, key=lambda each: each.arrival)

    # Pages for the next tokens of everybody who runs, best rank first.

    def _grow(self) -> None:
        index = 0
        while index < len(self._running):
            running = self._running[index]
            num_missing = _pages_of(len(running.request.tokens)) - len(running.pages)
            if num_missing > 0:
                if not self._entries.make_room(num_missing):
                    self._preempt(self._running[-1])  # which may be this one
                    continue
                self._allocate(running.pages, num_missing)
            index += 1

    def _allocate(self, pages: list[int], num_pages: int) -> None:
        self._cache.evict(num_pages - self._allocator.num_free)
        pages.extend(self._allocator.allocate() for _ in range(num_pages))

    def _preempt(self, running: RunningRequest) -> None:
        """Give its pages back and put it among the first of its class; whole pages stay in the prefix cache."""
        self._release(running)
        self._queue(running.request)

    def _preempt_below(self, priority: Priority) -> bool:
        """Preempt the worst running request if its class is below `priority`; whether there was one."""
        if not self._running or self._running[-1].request.generation.priority <= priority:
            return False
        self._preempt(self._running[-1])
        return True

    # Admission.

    def _admit(self) -> None:
        for queue in self._waiting.values():
            while queue:
                if not self._try_admit(queue[0]):
                    return
                queue.popleft()

    def _try_admit(self, request: Request) -> bool:
        priority = request.generation.priority
        while not self._free_slots:
            if not self._preempt_below(priority):
                return False
        if request.short_room is not None and self._room() <= request.short_room:
            return False
        node, pages = self._cache.match_prefix(request.generation.cache_scope, request.tokens)
        self._allocator.retain(pages)
        num_missing = _pages_of(len(request.tokens)) - len(pages)
        while not self._entries.make_room(num_missing + len(self._running)):
            if not self._preempt_below(priority):
                self._give_back(pages, node)
                request.short_room = self._room()
                return False
        request.short_room = None
        self._start(request, node, pages, num_missing)
        return True

    def _room(self) -> int:
        """Pages for newcomers: those that could be had, less one for each request that runs."""
        return self._allocator.num_available + self._allocator.num_pinned - len(self._running)

    def _start(self, request: Request, node: Node, pages: list[int], num_missing: int) -> None:
        num_cached_tokens = len(pages) * PAGE_TOKENS
        self._allocate(pages, num_missing)
        running = RunningRequest(request, self._free_slots.pop(), pages, node, num_cached_tokens)
        self._claim(running)
        self._running.append(running)
        self._running.sort(key=lambda running: running.request.rank)
        if not request.started:
            request.started = True
            self._num_prompt_tokens += request.num_prompt_tokens
            self._num_prompt_tokens_cached += num_cached_tokens
            self.outbox.append((request, Started(num_cached_tokens, self._entries.read(request, node))))
            self._announce(request, request.num_prompt_tokens)

    def _refuse_overdue(self) -> None:
        """End interactive requests whose turn has not come in time; those that were preempted have had theirs."""
        secs = self._config.max_wait_secs
        if not secs:
            return
        latest = self._wait_clock() - secs
        queue = self._waiting[Priority.INTERACTIVE]
        longest_waiting = takewhile(lambda each: each.started or each.queued_at <= latest, queue)
        for request in [each for each in longest_waiting if not each.started]:
            error = WaitedTooLong(
                f"The request has waited {secs:g} s for its turn", way_out="try again later"
            )
            self.end(request, Failed(error))

    # Pictures.

    def _look(self) -> None:
        if self._eyes is None:
            return
        interactive = [running for running in self._running if not _is_of_batch(running)]
        is_awaited = any(running.reads_prompt for running in interactive)
        failed = self._eyes.look(interactive if is_awaited else self._running)
        if failed is not None:
            running, cause = failed
            error = EngineFailed(f"a picture of this request could not be encoded: {cause}")
            self.end(running.request, Failed(error))

    # Shares of the step.

    def _plan(self) -> list[Chunk]:
        interactive = [running for running in self._running if not _is_of_batch(running)]
        batch = self._running[len(interactive) :]
        pages_under_way: set[tuple[Node, bytes]] = set()
        chunks = self._share(interactive, self._config.max_step_tokens, pages_under_way)
        if not any(chunk.running.reads_prompt for chunk in chunks):
            budget_tokens = self._batch_share.rows_beside(sum(chunk.num_rows for chunk in chunks))
            chunks += self._share(batch, budget_tokens, pages_under_way)
        for index, draft in self._speculator.drafts(chunks).items():
            chunks[index] = self._with_draft(chunks[index], draft)
        return chunks

    def _share(
        self, group: Sequence[RunningRequest], budget_tokens: int, pages_under_way: set[tuple[Node, bytes]]
    ) -> list[Chunk]:
        """Split a token budget among requests, best rank first: decodes, then prefills."""
        chunks: list[Chunk] = []
        prefills: list[RunningRequest] = []
        for running in group:
            if running.num_remaining > 1:
                self._skip_ahead(running)
            if running.num_ready == 0:
                continue
            if running.num_remaining > 1:
                key = running.next_shareable_key()
                if key is None:
                    prefills.append(running)
                elif (running.node, key) not in pages_under_way:
                    pages_under_way.add((running.node, key))
                    prefills.append(running)
                # Otherwise a request of better rank is computing this very page: wait for it and skip ahead.
            else:
                chunks.append(_chunk(running, len(running.request.tokens)))
        del chunks[budget_tokens:]
        chunks.extend(_share_prefills(prefills, budget_tokens - len(chunks)))
        return chunks

    def _with_draft(self, chunk: Chunk, draft: Sequence[int]) -> Chunk:
        """The chunk with as much of the draft as its pages hold, and one page more if nobody goes short of it."""
        pages = chunk.running.pages
        is_too_long = chunk.end + len(draft) > len(pages) * PAGE_TOKENS
        if is_too_long and self._allocator.num_available > len(self._running):
            self._allocate(pages, 1)
        return chunk._replace(draft=draft[: len(pages) * PAGE_TOKENS - chunk.end])

    def _skip_ahead(self, running: RunningRequest) -> None:
        """Adopt pages that others have finished since this request was admitted."""
        key = running.next_shareable_key()
        while key is not None and (child := running.node.children.get(key)):
            self._advance_cursor(running, child)
            running.num_computed = child.depth * PAGE_TOKENS
            key = running.next_shareable_key()

    # After the step.

    def _cache_pages(self, running: RunningRequest) -> None:
        """Offer the pages just filled to the prefix cache."""
        for index in range(running.node.depth, running.num_computed // PAGE_TOKENS):
            key = page_key(running.request.tokens, index)
            page, for_batch = running.pages[index], _is_of_batch(running)
            self._advance_cursor(running, self._cache.insert(running.node, key, page, for_batch=for_batch))

    def _advance_cursor(self, running: RunningRequest, child: Node) -> None:
        """Move one page down the tree; if that page is another request's, hold it instead of our own copy."""
        index = running.node.depth
        own_page = running.pages[index]
        if own_page != child.page:
            self._allocator.retain((child.page,))
            self._allocator.release((own_page,))
            running.pages[index] = child.page
            running.num_tabled_pages = min(running.num_tabled_pages, index)
        running.node = child
        self._claim(running)

    def _claim(self, running: RunningRequest) -> None:
        if not _is_of_batch(running):
            self._cache.claim(running.node)

    def _append(self, chunk: Chunk, drawn: Sequence[int]) -> Finished | Failed | None:
        """Append the drawn tokens that are what was drafted, the first that is not, and what a constraint forces
        after it. The last event, if the request ends with that."""
        running, request = chunk.running, chunk.running.request
        num_known = len(request.tokens)
        if chunk.end < num_known:
            return None  # it draws nothing yet
        last_event: Finished | Failed | None = None
        for token, drafted in zip_longest(drawn, chunk.draft):
            if token in request.generation.stop_token_ids:
                last_event = Finished(FinishReason.STOP_TOKEN)
                break
            request.tokens.append(token)
            if token != drafted:
                break
            running.num_computed += 1  # the next row has read this very token
        if request.lookup:
            request.lookup.learn(request.tokens)
        self._num_drafted += len(chunk.draft)
        self._num_accepted += running.num_computed - chunk.end
        if last_event is None and request.generation.constraint:
            last_event = self._constrain(request, num_known)
        self._announce(request, num_known)
        if last_event is None and len(request.tokens) == request.max_tokens:
            last_event = Finished(request.end_reason)
        return last_event

    def _constrain(self, request: Request, num_known: int) -> Failed | None:
        try:
            follow(request, request.tokens[num_known:], self._config.vocabulary)
        except (EngineFailed, RequestError) as error:
            return Failed(error)
        return None

    def _announce(self, request: Request, num_known: int) -> None:
        if len(request.tokens) > num_known:
            self.outbox.append((request, Tokens(tuple(request.tokens[num_known:]))))

    def _conclude(self, request: Request, event: Finished | Failed) -> None:
        request.ended = True
        self.outbox.append((request, event))

    def _release(self, running: RunningRequest) -> None:
        self._running.remove(running)
        self._free_slots.append(running.slot)
        self._give_back(running.pages, running.node)

    def _give_back(self, pages: list[int], node: Node) -> None:
        self._allocator.release(reversed(pages))
        self._cache.leave(node)


def _pages_of(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_TOKENS)


def _is_of_batch(running: RunningRequest) -> bool:
    return running.request.generation.priority is Priority.BATCH


def _chunk(running: RunningRequest, end: int) -> Chunk:
    request = running.request
    return Chunk(running, end, end == len(request.tokens) and end < request.max_tokens)


def _share_prefills(prefills: Sequence[RunningRequest], budget_tokens: int) -> Iterator[Chunk]:
    """Split a token budget among prefills, best rank first. Up to half of it is set aside in minimum chunks
    for those behind the first; chunks end at page borders where they can, so that others can share the pages
    at once."""
    set_aside: list[int] = []
    num_set_aside = 0
    for running in prefills[1:]:
        slice_tokens = min(_MIN_CHUNK_TOKENS, running.num_ready)
        if num_set_aside + slice_tokens > budget_tokens // 2:
            break
        set_aside.append(slice_tokens)
        num_set_aside += slice_tokens
    for index, running in enumerate(prefills):
        if 0 < index <= len(set_aside):
            num_set_aside -= set_aside[index - 1]
        num_tokens = min(running.num_ready, budget_tokens - num_set_aside)
        if num_tokens <= 0:
            break
        end = running.num_computed + num_tokens
        page_end = end - end % PAGE_TOKENS
        if end < len(running.request.tokens) and page_end > running.num_computed:
            end = page_end
        budget_tokens -= end - running.num_computed
        yield _chunk(running, end)
