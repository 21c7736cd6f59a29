"""Levels in a Valkey or Redis that several processes share. A script takes from all buckets at once or from none.

The clock is the server's, so that processes on machines with different clocks agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hokku.protocol.errors import BadSetting, StorageUnavailable
from hokku.protocol.records import Level
from hokku.quotas.buckets import SCALE, Take, Taken, retry_after_secs, shown

_PREFIX = "hokku:bucket:"
_CONNECTIONS = 16
_SECS = 5  # for a connection, and for an answer
# KEYS: the buckets. ARGV: 1 where a level may fall below nothing; then limit and amount of each bucket.
# Gives the lacking bucket's number or 0, the time, and the scaled levels: after taking, or as they were if one lacks.
# All in one string, since the client library reads a list line by line.
_SCRIPT = f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local levels, lacking = {{}}, 0
for i, key in ipairs(KEYS) do
  local limit, amount = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local kept = redis.call('HMGET', key, 'level', 'at')
  local level = limit * {SCALE}
  if kept[1] then
    local elapsed = math.max(0, now - tonumber(kept[2]))
    level = math.min(level, tonumber(kept[1]) + math.min(elapsed, {2 * SCALE}) * limit)
  end
  levels[i] = level
  if lacking == 0 and ARGV[1] == '0' and amount * {SCALE} > level then lacking = i end
end
local answer = {{lacking, string.format('%.0f', now)}}
for i, key in ipairs(KEYS) do
  local limit, amount = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  if lacking == 0 then
    levels[i] = math.min(limit * {SCALE}, levels[i] - amount * {SCALE})
    redis.call('HSET', key, 'level', string.format('%.0f', levels[i]), 'at', string.format('%.0f', now))
    local missing = limit * {SCALE} - levels[i]
    redis.call('PEXPIRE', key, math.ceil(missing / limit / 1000) + 1000)
  end
  answer[i + 2] = string.format('%.0f', levels[i])
end
return table.concat(answer, ' ')
"""


class ValkeyBuckets:
    """Levels in a Valkey.

    Args:
        url: `redis://host:6379/0`, `rediss://` or `unix:///path`.

    Raises:
        BadSetting: not such a URL, or the client library is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
        except ModuleNotFoundError as cause:
            raise BadSetting(
                "the client for Valkey is not installed",
                place="valkey",
                way_out="pip install 'hokku-llm[valkey]'",
            ) from cause
        try:
            # Whoever finds all connections in use waits for one; a thousand of them would serve nobody faster.
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_SECS,
                socket_timeout=_SECS,
                socket_connect_timeout=_SECS,
            )
        except ValueError as cause:
            raise BadSetting(
                "is not a URL of a Valkey", place="valkey", way_out="redis://localhost:6379/0"
            ) from cause
        self._client: Any = Redis.from_pool(pool)
        self._script = self._client.register_script(_SCRIPT)

    async def take(self, takes: Sequence[Take]) -> Taken:
        """See `Buckets`."""
        lacking, now, levels = await self._run(takes, may_sink=False)
        shown_levels = tuple(map(shown, takes, levels, [now] * len(takes)))
        if not lacking:
            return Taken(shown_levels)
        place = lacking - 1
        return Taken(shown_levels, place, retry_after_secs(takes[place], levels[place]))

    async def settle(self, takes: Sequence[Take]) -> tuple[Level, ...]:
        """See `Buckets`."""
        _, now, levels = await self._run(takes, may_sink=True)
        return tuple(map(shown, takes, levels, [now] * len(takes)))

    async def close(self) -> None:
        """See `Buckets`."""
        await self._client.aclose()

    async def _run(self, takes: Sequence[Take], *, may_sink: bool) -> tuple[int, int, list[int]]:
        from redis.exceptions import RedisError

        arguments = [int(may_sink), *(number for take in takes for number in (take.per_minute, take.amount))]
        try:
            answer = await self._script(keys=[_PREFIX + take.key for take in takes], args=arguments)
        except (RedisError, OSError) as cause:
            raise StorageUnavailable("The rate limits' store is unavailable") from cause
        lacking, now, *levels = map(int, answer.split())
        return lacking, now, levels
