"""The application: which path is answered by what."""
from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..request import EngineClosed, QuireError
from .chat import chat_completions, conversation_text
from .completions import completions
from .errors import ApiError, api_error, bad, draining
from .gate import Gate
from .generation import Json, Service
from .http import HttpLimits
from .protocol import DetokenizeRequest, TokenizeRequest, parse
from .tenants import Tenants


def make_app(service: Service, tenants: Tenants, limits: HttpLimits) -> Gate:
    """The whole application. `gate.is_draining = True` lets what runs end and refuses what comes."""
    app = Starlette(routes=[
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
    ], exception_handlers={ApiError: _answer_error, QuireError: _answer_error, EngineClosed: _answer_error,
                           HTTPException: _answer_http_error, Exception: _answer_error})
    gate = Gate(app, tenants, limits, service.metrics.count_error)
    app.state.service, app.state.gate = service, gate
    return gate


async def _answer_error(http: Request, error: Exception) -> Response:
    answer = api_error(error)
    return Json(answer.body(), answer.status, answer.headers)


async def _answer_http_error(http: Request, error: Exception) -> Response:
    """Of the router: no such path, no such method."""
    assert isinstance(error, HTTPException)
    answer = ApiError(error.status_code, f"{http.method} {http.url.path[:200]}: {error.detail}")
    return Json(answer.body(), answer.status, error.headers)


async def models(http: Request) -> Response:
    service: Service = http.app.state.service
    return Json({"object": "list", "data": [_model_body(service, name) for name in service.names]})


async def model(http: Request) -> Response:
    service: Service = http.app.state.service
    service.check_model(http.path_params["name"])
    return Json(_model_body(service, http.path_params["name"]))


def _model_body(service: Service, name: str) -> dict[str, Any]:
    info = service.info
    return {"id": name, "object": "model", "created": service.created, "owned_by": "quire", "root": service.names[0],
            "parent": None, "max_model_len": info.max_model_len, "vocab_size": info.vocab_size,
            "batch_invariant": info.batch_invariant}


async def tokenize(http: Request) -> Response:
    service: Service = http.app.state.service
    request = parse(await http.body(), TokenizeRequest)
    service.check_model(request.model)
    if (request.prompt is None) == (request.messages is None):
        raise bad("Either prompt or messages is required.", "prompt")
    is_prompt, text = request.messages is None, request.prompt or ""
    if request.messages is not None:
        variables = {**(request.chat_template_kwargs or {}), **({"tools": request.tools} if request.tools else {})}
        text = await conversation_text(service, request.messages, len(await http.body()), variables,
                                       request.add_generation_prompt is not False)
    special = is_prompt if request.add_special_tokens is None else request.add_special_tokens
    tokens = await service.encode(text, "prompt" if is_prompt else "messages", special, len(text))
    body = {"count": len(tokens), "max_model_len": service.info.max_model_len, "tokens": tokens}
    if request.return_token_strs:
        body["token_strs"] = [service.need_text("prompt").token_text(token) for token in tokens]
    return Json(body)


async def detokenize(http: Request) -> Response:
    service: Service = http.app.state.service
    request = parse(await http.body(), DetokenizeRequest)
    service.check_model(request.model)
    text = service.need_text("tokens")
    for i, token in enumerate(request.tokens):
        if not 0 <= token < service.info.vocab_size:
            raise bad(f"tokens[{i}]: {token} is not in 0..{service.info.vocab_size - 1}", "tokens")
    return Json({"prompt": text.decode(request.tokens, skip_special_tokens=False)})


async def health(http: Request) -> Response:
    service: Service = http.app.state.service
    if http.app.state.gate.is_draining:
        raise draining()
    service.engine.stats()
    return Json({"status": "ok"})


async def metrics(http: Request) -> Response:
    service: Service = http.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
