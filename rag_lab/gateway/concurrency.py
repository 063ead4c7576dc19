"""How many calls in flight are worth it: the decision, without any waiting.

Calls are judged in rounds (about one round trip). A round is the first calls begun at a limit;
its goodput is `limit × items / seconds in slots`, which is what the limit earns when it is used
up. Two limits are compared by the *yield* of the step between them: 1 if goodput grew in
proportion, 0 if the added calls only queued at the provider (latency grew instead).

A 429 cuts once an episode, a plateau of timeouts once in two rounds; other failures stop growth
while they are more than has become usual. A step up that ends in refusals or timeouts is undone,
and what it cost in seconds (timeouts, a Retry-After) decides how soon the next may be made.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from rag_lab.errors import SettingsError
from rag_lab.gateway.rounds import (
    Call,
    End,
    Failures,
    Level,
    LimitChange,
    LimiterSettings,
    Patience,
    Phase,
    Refusals,
    Round,
)

_REFUSED = "all above it were refused (429)"
_FASTER = 1.5
"""So many times the goodput, without a higher limit, is no luck."""


class Concurrency:
    """Decides the limit from what happened to calls. Pure but for the clock."""

    def __init__(self, settings: LimiterSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.in_flight = 0
        self.history: deque[LimitChange] = deque(maxlen=settings.history)
        self.last: Level | None = None  # what was earned when the limit was last used up
        self._clock = clock
        self.limit = settings.start
        """Calls that may be in flight at once."""
        self.phase: Phase = "doubling"
        self._anchor: Level | None = None  # what an experiment is compared with
        self._left = 0  # steady rounds before the next experiment
        self._rest_until = -math.inf  # and none above `_good` before: the last cost too much
        self._good = 0
        self._patience = Patience(settings, settings.hold_rounds, float(settings.start))
        self._gains = 0
        self._first_look: Level | None = None
        self._queueing = False  # the last step only made a queue longer
        self._blamed = False  # it was made because of timeouts
        self._failures = Failures()
        self._refusals = Refusals()
        self._ceiling = math.inf
        self._safe = 0.0
        self._cut_at = -math.inf
        self._episode_end = -math.inf
        self._span = 0.0
        self._round = self._next_round()
        self._note("start")

    def begin(self) -> Call:
        """A call takes a slot."""
        self.in_flight += 1
        member = self._round.admit(self.in_flight)
        return Call(self._clock(), self._round if member else None)

    def drop(self, call: Call) -> None:
        """A call gave its slot back and says nothing about the provider."""
        self.in_flight -= 1
        if call.round is not None:
            call.round.began -= 1

    def end(
        self,
        call: Call,
        end: End,
        latency_s: float | None = None,
        items: int = 1,
        retry_after_s: float = 0.0,
    ) -> None:
        """A call has ended; its slot is free again."""
        span = max(self._clock() - call.began if latency_s is None else latency_s, 1e-6)
        self._refusals.count(end == "throttled")
        if end == "ok":
            self._span += (span - self._span) * (0.1 if self._span else 1.0)
        elif end == "throttled" and self.phase != "fixed":
            self._throttled(call, retry_after_s)
        self.in_flight -= 1
        if call.round is self._round:
            self._round.count(end, span, items)
            if self._round.over or (self._stepped_up and self._failures.too_late(self._round)):
                self._judge(self._round)

    def fix(self, limit: int) -> None:
        """Holds the limit at a number of the user's."""
        if not 1 <= limit <= self.settings.maximum:
            raise SettingsError(f"a limit is between 1 and {self.settings.maximum}, got {limit}.")
        self._move("fixed", limit, "fixed by the user")

    def adapt(self) -> None:
        """Lets the limit find its own way again, from where it is."""
        if self.phase == "fixed":
            self._settle("adapts again", self.limit)

    def _judge(self, done: Round) -> None:
        failing, late = self._failures.judge(done)
        refused = done.share("throttled")
        self._refusals.after_round(refused)
        self._round = self._next_round()
        if self.phase == "fixed" or done.limit != self.limit:
            return
        here = Level(done.limit, done.goodput)
        if self._failures.plateau >= 2:
            self._plateau(here)
        elif late and self._stepped_up:
            self._undo()
        elif self._failures.plateau or refused > self._refusals.tolerated:
            return
        elif failing:
            self._stop_growth(here, late)
        elif done.used_up:
            self.last = here
            self._adapt(here)

    def _adapt(self, here: Level) -> None:
        if self.phase == "doubling":
            self._double(here)
        elif self.phase == "recovering":
            self._recover(here)
        elif self._anchor is None:
            self._anchor = here
        else:
            judge = {"climbing": self._climb, "lowering": self._lower}.get(self.phase, self._stay)
            judge(here, self._anchor)

    @property
    def _stepped_up(self) -> bool:
        """Whether the limit is higher than one that was seen to do well just before."""
        up = self.phase in ("doubling", "climbing")
        return up and self._anchor is not None and self._anchor.limit < self.limit

    def _undo(self) -> None:
        """Goes back at once: a step up that ends in timeouts costs as much as it lasts."""
        assert self._anchor is not None
        self._rest(self._clock() - self.history[-1].at, self._anchor.limit)
        self._queueing = False
        self._settle(f"calls time out at {self.limit}", self._anchor.limit)

    def _rest(self, cost_s: float, good: int) -> None:
        """No step up beyond a good limit until the cost of the last one is made up for."""
        rest_s = min(self.settings.rest * cost_s, self.settings.max_rest_s)
        self._rest_until = max(self._rest_until, self._clock() + rest_s)
        self._good = good

    def _stop_growth(self, here: Level, timeouts: bool) -> None:
        """Failures say nothing about the right limit; timeouts may come of too many calls."""
        anchor, self._queueing, self._blamed = self._anchor, timeouts, timeouts
        if self.phase == "lowering" and anchor is not None:
            self._lower(here, anchor)
        elif self.phase == "steady":
            self._left = 0 if timeouts else self._left
        elif timeouts and self._second_look(here) is not None:
            self._settle("timeouts stop growth", anchor.limit if anchor else here.limit)

    def _double(self, here: Level) -> None:
        low = self._anchor
        if low is None or here.growth_from(low) >= self.settings.worth:
            self._anchor = here
            if not self._move("doubling", 2 * here.limit, "doubled: it pays"):
                self._settle("the maximum", here.limit)
        elif (sure := self._second_look(here)) is not None:
            knee = low.limit * sure.goodput / max(low.goodput, 1e-9)
            self._queueing = sure.growth_from(low) < self.settings.idle
            self._settle(
                f"{here.limit} earned no more than {knee:.0f} would",
                min(here.limit, max(low.limit, math.ceil(1.1 * knee))),
            )

    def _stay(self, here: Level, anchor: Level) -> None:
        if here.goodput > _FASTER * anchor.goodput:
            self._look_up(here)
            return
        slow = here.goodput < 0.6 * anchor.goodput
        sure = self._second_look(here) if slow else None
        if slow and sure is None:
            return  # one such round may be a pause of our own machine
        self._first_look = None
        smooth = anchor.goodput + 0.3 * (here.goodput - anchor.goodput)
        best = max(anchor, here, key=lambda level: level.goodput)
        self._anchor = Level(anchor.limit, smooth)
        if sure is not None:  # the provider has become slower
            self._queueing, self._anchor, best, self._left = True, sure, sure, 0
            self._patience.reset()
        self._left -= 1
        if self._left > 0:
            return
        if self._queueing and self._move("lowering", int(0.8 * here.limit), "is less enough?"):
            # A disturbed round earns too little, never too much: nothing may be lost to the best.
            self._anchor = best
            self._patience.remember(anchor.limit)
            return
        self._queueing = False
        self._move("climbing", self._patience.step(here.limit), "is more worth it?")

    def _look_up(self, here: Level) -> None:
        """The same calls earn far more than before: the provider serves more of them at once."""
        self._queueing = self._blamed = False
        self._patience.reset()
        self._anchor = here
        if not self._move("doubling", 2 * here.limit, "the provider has become faster"):
            self._settle("no further for now", here.limit)

    def _climb(self, here: Level, anchor: Level) -> None:
        if self._ceiling < here.limit and self._patience.fallen(here.limit):
            self._ceiling = math.inf
            self._patience.reset()
            self._move("doubling", 2 * here.limit, "it is refused no more")
            return
        if here.limit < self.settings.probe * anchor.limit and self._move(
            "climbing", self._patience.step(here.limit), "a clean round"
        ):
            return
        if (sure := self._second_look(here)) is None:
            return
        gain = sure.growth_from(anchor)
        if gain < self.settings.worth:
            self._queueing = gain < self.settings.idle
            self._patience.grow(self.limit)
            self._settle(f"{here.limit} earned no more", anchor.limit)
            return
        self._anchor = here
        self._patience.reset()
        self._gains += 1
        if self._gains >= 2 or self._patience.fallen(here.limit) or self._ceiling < here.limit:
            self._ceiling = math.inf
            moved = self._move("doubling", 2 * here.limit, "it pays well")
        else:
            moved = self._move("climbing", self._patience.step(here.limit), "it pays")
        if not moved:
            self._settle("no further for now", here.limit)

    def _lower(self, here: Level, anchor: Level) -> None:
        if here.goodput > _FASTER * anchor.goodput:
            self._look_up(here)
            return
        self._queueing = here.growth_from(anchor) < self.settings.idle
        if not self._queueing:  # so the timeouts, if any, were not of our making
            then: Phase = "doubling" if self._blamed else "steady"
            self._settle(f"{here.limit} earned less", anchor.limit, then=then)
            return
        if (sure := self._second_look(here)) is None:
            return
        self._anchor, self._blamed = sure, False
        if not self._move("lowering", int(0.6 * here.limit), "nothing lost"):
            self._settle("the minimum", here.limit)

    def _recover(self, here: Level) -> None:
        quick = min(2 * self.limit, int(self._safe))
        near = int(min(0.95 * self._ceiling, self.settings.maximum))
        to = min(max(quick, self._patience.step(self.limit)), near)
        if to <= self.limit:
            self._settle(f"just under {self._ceiling:.0f}, where it was too much", self.limit)
            self._anchor = here
        else:
            self._move("recovering", to, "a clean round")

    def _throttled(self, call: Call, retry_after_s: float) -> None:
        now = self._clock()
        if now < self._episode_end or call.began < self._cut_at:
            self._episode_end = max(self._episode_end, now + retry_after_s)
            if self.phase == "recovering":
                self._accepted(self.in_flight - 1)
        elif self._refusals.lately > self._refusals.tolerated or not self._refusals.tolerated:
            self._episode_end = now + max(self._span, retry_after_s)
            self._cut(retry_after_s)

    def _accepted(self, others: int) -> None:
        """One more is refused beside so many others: at most these were accepted."""
        to = max(others, math.ceil(min(self._ceiling, self.limit) / 2))
        if to < self.limit:
            self._ceiling = to + 1.0
            if self._patience.fallen(to):
                self._patience.reset()
            if self.history[-1].reason == _REFUSED:
                self.history.pop()
            self._move("recovering", to, _REFUSED)
        elif others >= self.limit:
            self._ceiling = min(self._ceiling, others + 1.0)

    def _plateau(self, here: Level) -> None:
        """Most calls time out, round after round."""
        self._rest_until = -math.inf
        to = int(self.settings.plateau_cut * self.limit)
        if self._failures.end_plateau():  # some get through: look for where more would
            self._queueing = True
            self._settle("most calls time out", to)
            return
        if self.phase != "recovering":
            self._patience.remember(self.limit)
            self._ceiling, self._safe = float(self.limit), 0.9 * self.limit
        elif self.limit >= int(self._safe):  # it is not over, it comes back at this height
            self._safe /= 2
        self._move("recovering", to, "all calls time out")

    def _cut(self, retry_after_s: float) -> None:
        # To be refused again would cost another pause, so then the first guess is a bold one.
        least = self.limit // (4 if retry_after_s else 2)
        before = max(min(self.limit, self.in_flight), least)
        known = self._ceiling < math.inf
        if self.phase == "recovering" and before <= 0.9 * self._ceiling:
            self._patience.reset()
            self._safe = 0.0 if self.limit <= self._safe else self._safe
        else:
            self._patience.remember(self.limit)
            if known and abs(math.log(before / self._ceiling)) < 0.25:
                self._patience.grow(before)
            else:
                self._patience.reset()
            self._safe = before / 2
        self._cut_at = self._clock()
        if self._refusals.before_cut(
            lower=known and before < self._ceiling, lowest=before <= self.settings.minimum
        ):
            self._ceiling, self._anchor, self._rest_until = math.inf, None, -math.inf
            self._move("doubling", int(self._patience.was), "429s do not depend on the limit")
        else:
            # A small step up is undone; it need not fall below where all was well.
            well = self._anchor.limit if self._anchor and self.phase == "climbing" else 0
            self._ceiling = float(before)
            to = max(int(self.settings.cut * before), min(well, before - 1))
            self._move("recovering", to, "too many requests (429)")
            self._rest(retry_after_s, self.limit)

    def _second_look(self, here: Level) -> Level | None:
        """The mean of two rounds; None after the first."""
        first, self._first_look = self._first_look, here
        if first is None:
            return None
        return Level(here.limit, (first.goodput + here.goodput) / 2)

    def _settle(self, reason: str, limit: int, *, then: Phase = "steady") -> None:
        self._blamed = self._blamed and then == "steady"
        self._left = 0 if self._queueing else self._patience.hold(limit)
        self._anchor, self._gains = None, 0
        self._move(then, limit, reason)

    def _move(self, phase: Phase, limit: int, reason: str) -> bool:
        """Sets phase and limit; an experiment with the same limit is none (False)."""
        resting = phase in ("climbing", "doubling") and self._clock() < self._rest_until
        most = max(self._good, self.limit) if resting else self.settings.maximum
        to = max(self.settings.minimum, min(most, self.settings.maximum, limit))
        if to == self.limit and phase in ("climbing", "lowering", "doubling"):
            return False
        self.phase, self.limit, self._first_look = phase, to, None
        self._round = self._next_round()
        self._note(reason)
        return True

    def _note(self, reason: str) -> None:
        self.history.append(LimitChange(self._clock(), self.limit, self.phase, reason))

    def _next_round(self) -> Round:
        quick = self.phase in ("doubling", "recovering")
        return Round.of(self.limit, quick=quick, failing=self._failures.usual)
