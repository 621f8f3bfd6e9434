"""Requests and answers in the words of the OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otr_core.encoding import json_object, parse_json
from otr_core.errors import InputError, OtrError, ServiceError
from otr_core.lane.sampling import Decoding
from otr_core.poea.client import FORMAT
from otr_core.poea.message import Message
from otr_core.poea.order import Order
from otr_node.server.limits import ServerLimits

ROLES = ("system", "user", "assistant")
RECEIPT_HEADER, MODEL_HEADER = "otr-receipt-id", "otr-model-id"

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "stop": ([],),
    "tools": ([],),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "store": (False,),
}
"""Parameters that would change an answer, and the values at which they do not: others are refused,
because an answer that leaves them out would be another one than was asked for."""
_UNHEEDED = {"user", "metadata", "safety_identifier"}  # say who asks; no answer depends on them
_KNOWN = {"model", "messages", "stream", "stream_options", "temperature", "seed", "max_tokens"}
_KNOWN |= {"max_completion_tokens", "otr_order", *_NEUTRAL, *_UNHEEDED}


@dataclass(frozen=True)
class SentOrder:
    """An order with its query, as a client sends them."""

    order: Order
    query: Message

    @classmethod
    def parse(cls, raw: bytes) -> SentOrder:
        """Read an order file, as ``PlacedOrder.sent`` writes it."""
        return cls.from_json(parse_json(raw, what="order file"))

    @classmethod
    def from_json(cls, document: Any) -> SentOrder:
        """Read the document of an order file.

        Raises:
            InputError: not such a file, or the client's own copy with what it keeps for itself.
        """
        found = json_object(document, ("format", "order", "query", "kept"), what="otr_order")
        if found["format"] != FORMAT:
            raise InputError(f"otr_order format: found {str(found['format'])[:40]!r}, expected {FORMAT!r}")
        if found["kept"] is not None:
            raise InputError("otr_order kept: found something, expected null: what a client keeps is not to be sent")
        return cls(Order.from_json(found["order"]), Message.from_json("query", found["query"]))


@dataclass(frozen=True)
class ChatRequest:
    """What ``/v1/chat/completions`` is asked.

    Attributes:
        model: as the client names it; None where an order says it. messages: of the conversation;
            decoding: how to answer it; seed None: the server draws one. Of an order: ``sent``.
        stream: whether tokens are sent as they come. usage: whether a stream ends with the counts.
    """

    model: str | None
    messages: tuple[Mapping[str, str], ...]
    max_tokens: int | None
    temperature_milli: int
    seed: int | None
    sent: SentOrder | None
    stream: bool
    usage: bool


def read_request(raw: bytes) -> ChatRequest:
    """Read a request's body.

    Raises:
        ServiceError: status 400, with the parameter that is meant.
    """
    try:
        body = json_object(parse_json(raw, what="body"), what="body")
    except InputError as error:
        raise ServiceError(400, "invalid_json", str(error)) from error
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        if name not in _KNOWN:
            raise _wrong(
                name[:80], "found it, expected no parameter that this server does not know", "unknown_parameter"
            )
    for name, allowed in _NEUTRAL.items():
        if name in given and not any(_same(given[name], value) for value in allowed):
            raise _wrong(name, f"found another value than {json.dumps(allowed[0])}, which this server cannot heed")
    stream = _of_kind(given, "stream", bool, "true or false", default=False)
    options = _of_kind(given, "stream_options", dict, "an object", default={})
    if options.keys() - {"include_usage", "include_obfuscation"} or not all(type(v) is bool for v in options.values()):
        raise _wrong("stream_options", "found other members, expected include_usage, true or false")
    common = {"stream": stream, "usage": bool(options.get("include_usage"))}
    model = _of_kind(given, "model", str, "the name of a model", default=None)
    if "otr_order" in given:
        beside = sorted({"temperature", "seed", "max_tokens", "max_completion_tokens"} & given.keys())
        if beside or given.get("messages"):
            raise _wrong((beside or ["messages"])[0], "found it beside otr_order, which says itself what is answered")
        try:
            sent = SentOrder.from_json(given["otr_order"])
        except OtrError as error:
            raise _wrong("otr_order", str(error), "invalid_order") from error
        return ChatRequest(model, (), None, 0, None, sent, **common)
    if model is None:
        raise _wrong("model", "found none, expected the name of a model", "missing_parameter")
    most = _of_kind(given, "max_tokens", int, "a whole number", default=None)
    other = _of_kind(given, "max_completion_tokens", int, "a whole number", default=None)
    if most is not None and other not in (None, most):
        raise _wrong("max_tokens", f"found {most} and {other} as max_completion_tokens, expected one of them")
    heat = given.get("temperature", 0)
    if type(heat) not in (int, float) or not 0 <= heat <= 5:
        raise _wrong("temperature", "found another value, expected a number from 0 (greedy) to 5")
    seed = _of_kind(given, "seed", int, "a whole number", default=None)
    return ChatRequest(
        model,
        _messages(given.get("messages")),
        most if most is not None else other,
        round(1000 * heat),
        seed,
        None,
        **common,
    )


def decoding_asked(request: ChatRequest, limits: ServerLimits, room: int, drawn: int) -> Decoding:
    """How an answer is decoded.

    Args:
        room: tokens that the model's context leaves after the prompt. drawn: the seed where the
            request names none.

    Raises:
        ServiceError: status 400: more tokens than may be asked for, or a seed out of range.
    """
    most = request.max_tokens
    if most is None:
        most = min(limits.default_tokens, limits.max_tokens, room)
    if not 1 <= most <= limits.max_tokens:
        raise _wrong("max_tokens", f"found {most}, expected 1 to {limits.max_tokens}")
    try:
        return Decoding(most, drawn if request.seed is None else request.seed, request.temperature_milli)
    except OtrError as error:
        raise _wrong("seed", str(error)) from error


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise _wrong("messages", "found none, expected a list of at least one message")
    return tuple(_message(each, f"messages[{at}]") for at, each in enumerate(value))


def _message(value: Any, where: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or value.keys() - {"role", "content", "name"} or value.get("name") is not None:
        raise _wrong(where, "found something else, expected an object with role and content")
    if value.get("role") not in ROLES:
        raise _wrong(f"{where}.role", f"found another role, expected one of {', '.join(ROLES)}")
    content = value.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.keys() == {"type", "text"}]
        texts = [part["text"] for part in parts if part["type"] == "text" and isinstance(part["text"], str)]
        content = "".join(texts) if len(texts) == len(content) else None
    if not isinstance(content, str):
        raise _wrong(f"{where}.content", "found something else, expected a text, or a list of parts of type text")
    return {"role": value["role"], "content": content}


def _same(found: Any, value: Any) -> bool:
    numbers = type(found) in (int, float) and type(value) is int
    return bool(found == value) and (numbers or type(found) is type(value))


def _of_kind(given: Mapping[str, Any], name: str, kind: type, words: str, *, default: Any) -> Any:
    value = given.get(name, default)
    if name in given and type(value) is not kind:
        raise _wrong(name, f"found another kind of value, expected {words}")
    return value


def _wrong(param: str, why: str, code: str = "invalid_value") -> ServiceError:
    return ServiceError(400, code, f"{param}: {why}", param=param)


def error_document(error: ServiceError) -> dict[str, Any]:
    """A refusal as the API words it."""
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}}


@dataclass(frozen=True)
class Wording:
    """The documents of one answer.

    Attributes:
        order_id: hex; the id of order, answer and receipt. model: as it is listed. created: Unix seconds.
        extra: the member ``otr``.
    """

    order_id: str
    model: str
    created: int
    extra: Mapping[str, Any]

    def _document(self, kind: str, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        common = {"id": f"chatcmpl-{self.order_id}", "object": kind, "created": self.created, "model": self.model}
        return {**common, "choices": list(choices), **more}

    def whole(self, text: str | None, finish: str, prompt: int, chosen: int) -> dict[str, Any]:
        """A completion. text: None where it is sealed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return self._document("chat.completion", [choice], usage=_usage(prompt, chosen), otr=self.extra)

    def first(self) -> dict[str, Any]:
        """The first chunk of a stream: who speaks, and the order that is answered."""
        return self._chunk({"role": "assistant", "content": ""}, None, otr=self.extra)

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk with a part of the text."""
        return self._chunk({"content": text}, None)

    def last(self, finish: str) -> dict[str, Any]:
        """The chunk that is sent when the receipt is written."""
        return self._chunk({}, finish, otr={"receipt_id": self.order_id})

    def counts(self, prompt: int, chosen: int) -> dict[str, Any]:
        """The chunk with the counts, for those who ask for it."""
        return self._document("chat.completion.chunk", [], usage=_usage(prompt, chosen))

    def _chunk(self, delta: Mapping[str, Any], finish: str | None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}
        return self._document("chat.completion.chunk", [choice], **more)


def _usage(prompt: int, chosen: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": chosen, "total_tokens": prompt + chosen}
