"""State by event loop: one each, and none of the dead."""

from __future__ import annotations

import asyncio
from typing import Any

from rag_lab.gateway.loops import PerLoop


class State:
    """Holds its loop, as futures and connections do."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()


def test_one_state_a_loop_and_none_of_the_dead() -> None:
    states = PerLoop(State)

    async def look() -> State:
        assert states.get() is states.get()
        assert states.get().loop is asyncio.get_running_loop()
        return states.get()

    seen = [asyncio.run(look()) for _ in range(5)]
    assert len({id(state) for state in seen}) == 5
    assert states.all() == seen[-1:]


def test_two_loops_at_once_do_not_disturb_each_other() -> None:
    states = PerLoop(State)

    async def look() -> None:
        own = states.get()
        await asyncio.sleep(0.01)
        assert states.get() is own

    async def main() -> None:
        own = states.get()
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, look()) for _ in range(3)))
        assert states.get() is own

    asyncio.run(main())


def test_what_is_popped_is_made_anew() -> None:
    states: PerLoop[Any] = PerLoop(State)

    async def main() -> None:
        assert states.pop() is None
        first = states.get()
        assert states.pop() is first
        assert states.get() is not first

    asyncio.run(main())
