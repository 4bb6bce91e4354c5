"""A tier's queue: who runs, who waits, who is refused."""

import asyncio

import pytest

from fastpath.config_serve import TierConfig
from serve.errors import Draining, QueueFull
from serve.queues import TierQueue


def queue(**limits) -> TierQueue:
    return TierQueue("fast", TierConfig(**limits))


async def hold(queue, order, name, release, tokens=1):
    async with queue.place(tokens):
        order.append(name)
        await release.wait()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_places_go_in_order_of_arrival_and_never_beyond_the_limit():
    async def play():
        tier, order = queue(running=2, queue=3), []
        releases = [asyncio.Event() for _ in range(5)]
        tasks = [asyncio.create_task(hold(tier, order, n, releases[n])) for n in range(5)]
        await settle()
        assert (tier.running, tier.depth, order) == (2, 3, [0, 1])
        with pytest.raises(QueueFull) as refused:
            async with tier.place(1):
                pass
        assert refused.value.headers()["Retry-After"]
        releases[1].set()
        await settle()
        assert (tier.running, tier.depth, order) == (2, 2, [0, 1, 2])
        for release in releases:
            release.set()
        await asyncio.gather(*tasks)
        assert (tier.running, tier.depth, order) == (0, 0, [0, 1, 2, 3, 4])

    asyncio.run(play())


def test_a_waiter_that_leaves_gives_its_turn_to_the_next():
    async def play():
        tier, order = queue(running=1, queue=3), []
        first, rest = asyncio.Event(), asyncio.Event()
        rest.set()
        holder = asyncio.create_task(hold(tier, order, "holder", first))
        await settle()
        leaver = asyncio.create_task(hold(tier, order, "leaver", rest))
        stayer = asyncio.create_task(hold(tier, order, "stayer", rest))
        await settle()
        first.set()
        leaver.cancel()
        await asyncio.gather(holder, leaver, stayer, return_exceptions=True)
        assert order == ["holder", "stayer"] and (tier.running, tier.depth) == (0, 0)

    asyncio.run(play())


@pytest.mark.parametrize("steps", range(6))
def test_a_place_that_comes_as_its_waiter_leaves_is_not_lost(steps):
    async def play():
        tier = queue(running=1, queue=1)
        release = asyncio.Event()
        holder = asyncio.create_task(hold(tier, [], 0, release))
        await settle()
        leaver = asyncio.create_task(hold(tier, [], 1, asyncio.Event()))
        await settle()
        release.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.gather(holder, leaver, return_exceptions=True)
        assert (tier.running, tier.depth) == (0, 0)

    asyncio.run(play())


def test_tokens_that_wait_are_limited_but_one_may_always_wait():
    async def play():
        tier = queue(running=1, queue=9, queue_tokens=10)
        release = asyncio.Event()
        tasks = [asyncio.create_task(hold(tier, [], n, release, tokens=100)) for n in range(2)]
        await settle()
        with pytest.raises(QueueFull, match="100 tokens wait"):
            async with tier.place(1):
                pass
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(play())


def test_a_draining_queue_takes_nobody():
    async def play():
        tier = queue()
        tier.is_draining = True
        with pytest.raises(Draining):
            async with tier.place(1):
                pass

    asyncio.run(play())
