"""The simulated provider over HTTP.

aiohttp's low-level server without routing, middleware or access log: the provider must never be
what a measurement is limited by. A second, private port stays open for `/stats` and `/control`
while the public one refuses connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from rag_lab.errors import RagLabError, SettingsError
from rag_lab.simulate.chat import ExtractiveChat
from rag_lab.simulate.provider import Plan, Refusal, tokens_of
from rag_lab.simulate.replies import (
    BadRequestError,
    ChatRequest,
    EmbeddingRequest,
    chat_body,
    chat_events,
    cut_answer,
    embeddings_body,
    model_object,
    models_body,
)
from rag_lab.simulate.run import Run
from rag_lab.simulate.settings import Endpoint, SimulatorSettings
from rag_lab.simulate.stats import CUT, CallTime
from rag_lab.simulate.vectors import Vectors, language_of, load_embedder
from rag_lab.simulate.wire import LOOPBACK, Port, Reply, send

_MOST_BODY_BYTES = 2**28
_MODEL_FIELDS = ("embedder", "dimensions", "language")
_FIXED_IN_A_RUN = ("time_scale", "seed", "draw_by")


class Server:
    """One provider on one public port."""

    def __init__(self, settings: SimulatorSettings, host: str = LOOPBACK, port: int = 0) -> None:
        self._start_settings = settings
        self._load_models(settings)
        self._run = Run(settings, self._follow_windows)
        self._open_controls = host == LOOPBACK
        self._public = Port(_web_server(self._handle), host, port)
        self._private = Port(_web_server(self._handle_private), LOOPBACK, 0)
        self._windows: list[asyncio.TimerHandle] = []
        self._opening: asyncio.Task[None] | None = None

    @property
    def ports(self) -> tuple[int, int]:
        """The public one and the private one."""
        return self._public.number, self._private.number

    async def start(self) -> None:
        """Listens on both ports."""
        await self._public.open()
        await self._private.open()
        self._follow_windows()

    async def stop(self) -> None:
        """Stops listening and drops every call."""
        self._forget_windows()
        await asyncio.gather(self._public.close(), self._private.close())

    # Calls

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "POST", "/v1/embeddings":
                return await self._call(request, "embeddings")
            case "POST", "/v1/chat/completions":
                return await self._call(request, "chat")
            case "GET", path if path == "/v1/models" or path.startswith("/v1/models/"):
                name = path.removeprefix("/v1/models").strip("/")
                return await send(request, self._models(request, name))
            case _, "/stats" | "/control" if self._open_controls:
                return await self._handle_private(request)
            case _:
                message = f"Unknown request URL: {request.method} {request.path}."
                return await send(request, Reply.refused(Refusal(404, message, "unknown_url")))

    async def _call(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        run = self._run
        record = run.arrive(endpoint)
        try:
            decision = await self._read(run, request, record)
            if isinstance(decision, Refusal):
                await run.sleep(decision.after_s)
                reply = Reply.refused(decision)
                record.status = reply.status
                return await send(request, reply)
            return await self._serve(run, request, record, *decision)
        finally:
            run.ledger.end(record, run.now_s())

    async def _read(
        self, run: Run, request: web.BaseRequest, record: CallTime
    ) -> Refusal | tuple[EmbeddingRequest | ChatRequest, Plan]:
        raw = await request.read()
        if refusal := run.provider.authorize(request.headers.get("authorization", "")):
            return refusal
        asked: EmbeddingRequest | ChatRequest
        try:
            if record.endpoint == "embeddings":
                asked = EmbeddingRequest.read(raw, self._vectors.most_dimensions())
            else:
                asked = ChatRequest.read(raw)
        except BadRequestError as error:
            return error.refusal
        run.ledger.read(record, asked.call.texts, asked.call.tokens)
        decision = run.provider.decide(
            asked.call, run.now_s(), run.ledger.in_flight, full=run.slots.full
        )
        record.faults = tuple(fault.name for fault in decision.faults)
        return decision if isinstance(decision, Refusal) else (asked, decision)

    async def _serve(
        self,
        run: Run,
        request: web.BaseRequest,
        record: CallTime,
        asked: EmbeddingRequest | ChatRequest,
        plan: Plan,
    ) -> web.StreamResponse:
        """Serves a call as soon as there is a slot, which it keeps until the reply has gone."""
        await run.slots.take()
        try:
            run.ledger.start(record, run.now_s())
            if reset := plan.has("reset"):
                await run.sleep(reset.seconds)
                reply = Reply(reset=True)
            elif isinstance(asked, EmbeddingRequest):
                reply = await self._embed(run, asked, plan)
            else:
                reply = await self._write(run, asked, plan)
            response = await send(request, reply)
            record.status = CUT if reply.reset else reply.status
            return response
        finally:
            run.slots.free()

    async def _embed(self, run: Run, asked: EmbeddingRequest, plan: Plan) -> Reply:
        due_s = run.now_s() + run.provider.service_s(asked.call, plan)
        rows = await self._vectors.rows(asked.call.texts, asked.dimensions)
        reply = _replied(plan, embeddings_body(asked, rows, plan))
        await run.sleep(due_s - run.now_s())  # all that is done while the modelled time passes
        return reply

    async def _write(self, run: Run, asked: ChatRequest, plan: Plan) -> Reply:
        answer, finish = cut_answer(self._chat.answer(asked.prompt), asked.most_tokens)
        before_s = run.provider.service_s(asked.call, plan)
        call = replace(asked.call, output_tokens=tokens_of(answer))
        writing_s = run.provider.service_s(call, plan) - before_s
        call_id = plan.key.hex()
        if not asked.stream:
            await run.sleep(before_s + writing_s)
            return _replied(plan, chat_body(asked, answer, finish, call_id))
        await run.sleep(before_s)
        invalid = plan.has("invalid-json") is not None
        events = tuple(chat_events(asked, answer, finish, call_id, invalid=invalid))
        pace_s = writing_s * run.settings.time_scale / len(events)
        return replace(_replied(plan, b""), events=events, pace_s=pace_s)

    def _models(self, request: web.BaseRequest, name: str) -> Reply:
        known = self._run.settings.models
        if refusal := self._run.provider.authorize(request.headers.get("authorization", "")):
            return Reply.refused(refusal)
        if not name:
            return Reply(body=models_body(known))
        if name not in known:
            message = f"The model {name!r} does not exist."
            return Reply.refused(Refusal(404, message, "model_not_found"))
        return Reply(body=orjson.dumps(model_object(name)))

    # Control

    async def _handle_private(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "GET", "/stats":
                reply = Reply(body=self._stats(request.query))
            case "POST", "/control":
                try:
                    settings = await self._control(orjson.loads(await request.read()))
                    reply = Reply(body=orjson.dumps(settings.public()))
                except (RagLabError, orjson.JSONDecodeError) as error:
                    reply = Reply.refused(Refusal(400, str(error), "invalid_control"))
            case _:
                message = f"There is GET /stats and POST /control, not {request.method}."
                reply = Reply.refused(Refusal(404, message, "unknown_url"))
        return await send(request, reply)

    def _stats(self, query: Any) -> bytes:
        run = self._run
        stats = run.ledger.to_dict(
            run.now_s(),
            run.settings.time_scale,
            texts=query.get("texts") == "1",
            times=query.get("times") == "1",
        )
        return orjson.dumps(stats, option=orjson.OPT_NON_STR_KEYS)

    async def _control(self, body: Any) -> SimulatorSettings:
        """Changes settings: {"settings": {…}, "reset": bool, "replace": bool}.

        A reset goes back to the settings at the start, and changes those; `replace` starts with
        the settings given, which then are the ones at the start.
        """
        if not isinstance(body, dict) or body.keys() - {"settings", "reset", "replace"}:
            raise SettingsError("simulate: expected 'settings', 'reset' and 'replace', no more.")
        given = body.get("settings") or {}
        if body.get("replace"):
            wanted = self._start_settings = SimulatorSettings.of(given)
        elif body.get("reset"):
            wanted = self._start_settings.changed(**given)
        else:
            wanted = self._run.settings.changed(**given)
            for name in _FIXED_IN_A_RUN:
                if getattr(wanted, name) != getattr(self._run.settings, name):
                    raise SettingsError(f"simulate: {name} can only change with a reset.")
        if any(getattr(wanted, f) != getattr(self._run.settings, f) for f in _MODEL_FIELDS):
            await asyncio.to_thread(self._load_models, wanted)
        if body.get("replace") or body.get("reset"):
            self._run = Run(wanted, self._follow_windows)
        else:
            self._run.provider.change(wanted)
        self._follow_windows()
        if self._opening is not None:  # whoever asked may call as soon as we answer
            await asyncio.wait([self._opening])
        return wanted

    def _load_models(self, settings: SimulatorSettings) -> None:
        fit = settings.embedder
        self._vectors = Vectors(load_embedder(fit) if fit else None, settings.dimensions)
        self._chat = ExtractiveChat(settings.language or (language_of(fit) if fit else "en"))

    # Windows of time

    def _follow_windows(self) -> None:
        """Takes on the state of now, and sets a timer for each later change of it."""
        self._forget_windows()
        run = self._run
        now_s = run.now_s()
        run.slots.resize(run.provider.capacity(now_s))
        loop = asyncio.get_running_loop()
        if run.started_at is not None and run.provider.refusing(now_s):
            self._public.refuse()
        else:
            self._opening = loop.create_task(self._public.open())
        for at in run.later_edges():
            self._windows.append(loop.call_at(at, self._follow_windows))

    def _forget_windows(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        for timer in self._windows:
            timer.cancel()
        self._windows.clear()


def _web_server(handler: Callable[[web.BaseRequest], Any]) -> web.Server:
    loop = asyncio.get_running_loop()

    def request(*parts: Any) -> web.BaseRequest:
        return web.BaseRequest(*parts, loop=loop, client_max_size=_MOST_BODY_BYTES)  # type: ignore[misc]

    return web.Server(handler, request_factory=request, handler_cancellation=True, access_log=None)


def _replied(plan: Plan, body: bytes) -> Reply:
    """A reply to a call that was served, spoilt on its way out if it is to be."""
    headers = plan.headers
    if plan.faults:
        headers = headers | {"x-simulated-faults": ",".join(fault.name for fault in plan.faults)}
    if plan.has("invalid-json"):
        body = body[: len(body) // 2]
    return Reply(body=body, headers=headers, truncated=plan.has("truncate") is not None)
