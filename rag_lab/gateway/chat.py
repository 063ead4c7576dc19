"""A chat model behind its lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rag_lab.gateway.call import CallSettings, ChatCall, Endpoint
from rag_lab.gateway.explain import explained
from rag_lab.gateway.lane import Ask, Lane
from rag_lab.gateway.plan import estimated_tokens
from rag_lab.gateway.reply import ChatReply
from rag_lab.records import Usage
from rag_lab.settings import Price
from rag_lab.telemetry.trace import Trace

Message = Mapping[str, Any]
_ANSWER_TOKENS = 256
"""How long an answer is taken to be if no `max_tokens` is asked for."""


class ChatModel:
    """One chat model at one provider.

    Args:
        endpoint: which model, and where.
        lane: what its calls share.
        settings: how a call is made.
        price: for `Usage.cost_usd`; None if unknown.
    """

    def __init__(
        self, endpoint: Endpoint, lane: Lane, settings: CallSettings, price: Price | None = None
    ) -> None:
        self.endpoint = endpoint
        self.lane = lane
        self.price = price
        self._call = ChatCall(endpoint, settings)

    async def answer(
        self, messages: Sequence[Message], options: Mapping[str, Any], trace: Trace
    ) -> ChatReply:
        """One answer.

        Raises:
            ModelError: it was refused, or the provider failed (`ProviderError`).
        """
        prompt = float(sum(estimated_tokens(str(each.get("content", ""))) for each in messages))
        most = options.get("max_completion_tokens") or options.get("max_tokens") or _ANSWER_TOKENS
        settings = self.lane.settings
        await self._call.connect()  # before a place in the budget is taken
        try:
            reply = await self.lane.request(
                lambda: self._call(messages, **options),
                Ask("chat", "interactive", prompt + float(most), hedge=settings.hedge_chat),
                trace,
                patience_s=settings.question_patience_s,
            )
        except Exception as error:
            raise explained(error, "chat", self.endpoint) from None
        self.lane.spend(trace, self._usage(reply, prompt))
        return reply

    def _usage(self, reply: ChatReply, estimated: float) -> Usage:
        asked = round(estimated) if reply.prompt_tokens is None else reply.prompt_tokens
        written = reply.completion_tokens
        if written is None:
            written = estimated_tokens(reply.content)
        cost = None
        if self.price is not None:
            cost = (asked * self.price.input + written * self.price.output) / 1e6
        return Usage(calls=1, prompt_tokens=asked, completion_tokens=written, cost_usd=cost)

    async def aclose(self) -> None:
        """Closes the connections of the running loop."""
        await self._call.aclose()
