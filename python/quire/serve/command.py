"""The command line: from arguments to a server that listens."""
from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import resource
import socket
import sys
import time

from .._config import read_assignments
from ..async_engine import AsyncEngine
from ..kv_events import KvEventPublisher, read_config
from ..request import QuireError
from ..text import Text, load_text
from .app import make_app
from .gate import Gate
from .generation import Service
from .http import HttpLimits, make_server
from .metrics import Metrics
from .tenants import KeyFileError, Tenants, read_keys
from .tools import FORMATS

log = logging.getLogger("quire.serve")
LAST_BYTES_S, DAY_S = 5.0, 86400
SPARE_FILES = 256  # beside connections


def arguments() -> argparse.ArgumentParser:
    limits = HttpLimits()
    parser = argparse.ArgumentParser(prog="quire-serve", description="Answers OpenAI's HTTP interface with a model: docs/SERVING.md.")
    add = parser.add_argument
    add("model", nargs="?", help="a folder as Hugging Face publishes it, a GGUF file, or a preset; default: the configuration's")
    add("--host", default="127.0.0.1", help="address to listen on, default %(default)s: this machine alone")
    add("--port", type=int, default=8000, help="default %(default)s; 0: any that is free, which the log names")
    add("--served-model-name", nargs="+", metavar="NAME", help="names that requests may use; default: the model's")
    add("--tokenizer", metavar="PATH", help="a folder or GGUF file with the tokenizer and chat template; default: the model's")
    add("--skip-tokenizer-init", action="store_true", help="token ids only")
    add("--tool-call-parser", choices=FORMATS, help="how the model writes calls of tools; default: as its chat template says")
    add("--config", metavar="FILE", help="quire.toml")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a key of the configuration")
    add("--api-keys", metavar="FILE", help="TOML with a table [tenants]: names and keys; default: everybody is let in")
    add("--kv-events-config", metavar="JSON", help="publish what the prefix cache has, for routers: vLLM's fields, "
        """'{"enable_kv_cache_events": true, "endpoint": "tcp://127.0.0.1:5557"}'""")
    add("--ssl-certfile", metavar="FILE")
    add("--ssl-keyfile", metavar="FILE")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    add("--drain-timeout", type=float, default=60.0, metavar="S", help="after SIGTERM, how long running requests may take; default %(default)g")
    add("--max-connections", type=int, default=limits.connections, metavar="N", help="default %(default)s")
    add("--max-body-bytes", type=int, default=limits.body_bytes, metavar="N", help="of a request, default %(default)s")
    add("--header-timeout", type=float, default=limits.header_s, metavar="S", help="for the head of a request, default %(default)g")
    add("--body-timeout", type=float, default=limits.body_s, metavar="S", help="for the body of a request, default %(default)g")
    add("--stall-timeout", type=float, default=limits.stall_s, metavar="S",
        help="a client that takes nothing of its answer for so long is cut off, default %(default)g")
    return parser


def run() -> int:
    args = arguments().parse_args()
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_serve(args))
    except (QuireError, KeyFileError, OSError) as error:
        print(f"quire-serve: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while the model is loaded
        return 130
    return 0


def _check(args: argparse.Namespace) -> None:
    for name, least, most in (("port", 0, 65535), ("max_connections", 1, 1 << 20), ("max_body_bytes", 1, 1 << 30),
                              ("header_timeout", 0.1, DAY_S), ("body_timeout", 0.1, DAY_S), ("stall_timeout", 0.1, DAY_S),
                              ("drain_timeout", 0, DAY_S)):
        if not least <= (value := getattr(args, name)) <= most:
            raise QuireError("ERR_INVALID", f"--{name.replace('_', '-')}: {value} is not in {least}..{most}")
    for name in args.served_model_name or ():
        if not _is_text(name):
            raise QuireError("ERR_INVALID", f"--served-model-name: {name!r} is not UTF-8")
    if args.ssl_keyfile is not None and args.ssl_certfile is None:
        raise QuireError("ERR_INVALID", "--ssl-keyfile: there is no --ssl-certfile that it belongs to")
    for name in ("ssl_certfile", "ssl_keyfile"):
        if (path := getattr(args, name)) is not None:
            _check_file(f"--{name.replace('_', '-')}", path)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
        return False
    return True


def _check_file(option: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        raise QuireError("ERR_IO", f"{option}: {path!r}: {getattr(error, 'strerror', None) or error}") from None


async def _serve(args: argparse.Namespace) -> None:
    _check(args)
    tenants = read_keys(args.api_keys) if args.api_keys else Tenants()
    limits = HttpLimits(connections=args.max_connections, header_s=args.header_timeout, body_s=args.body_timeout,
                        stall_s=args.stall_timeout, body_bytes=args.max_body_bytes)
    _allow_files(args.max_connections + SPARE_FILES)
    listener = _listener(args.host, args.port)
    text = load_text(args.tokenizer) if args.tokenizer else None
    kv_events = read_config(args.kv_events_config)
    engine = AsyncEngine(args.model, config=args.config, tokenizer=text, skip_tokenizer_init=args.skip_tokenizer_init,
                         cache_events=kv_events is not None, options=read_assignments(args.set))
    publisher = None
    try:
        publisher = KvEventPublisher(engine, kv_events) if kv_events is not None else None
        names = args.served_model_name or [engine.model_info.name]
        text = engine.tokenizer if isinstance(engine.tokenizer, Text) else None
        service = Service(engine, text, names, Metrics(names[0], engine.stats), args.tool_call_parser)
        gate = make_app(service, tenants, limits)
        server = make_server(gate, lambda: _drain(engine, gate, args.drain_timeout),
                             lambda: _announce(args, names[0], listener, bool(text)), limits, log_level=args.log_level,
                             ssl_certfile=args.ssl_certfile, ssl_keyfile=args.ssl_keyfile)
        try:
            server.config.load()
        except OSError as error:
            files = f"--ssl-certfile {args.ssl_certfile!r}" + (f", --ssl-keyfile {args.ssl_keyfile!r}" if args.ssl_keyfile else "")
            raise QuireError("ERR_INVALID", f"{files}: {error.strerror or error}") from None
        host = listener.getsockname()[0]
        if not tenants.has_keys and not ipaddress.ip_address(host).is_loopback:
            log.warning("%s can be reached by others, and without --api-keys everybody is let in", host)
        try:
            await server.serve([listener])
        except OSError as error:  # another server was faster to listen there
            raise OSError(f"{args.host}:{args.port}: {error.strerror or error}") from None
        if (broken := engine.check()) is not None:
            raise QuireError("ERR_INTERNAL", f"the engine's check at the end: {broken}")
    finally:
        if publisher is not None:
            publisher.close()
        await engine.aclose()


def _announce(args: argparse.Namespace, name: str, listener: socket.socket, has_text: bool) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http{'s' if args.ssl_certfile else ''}://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"quire-serve: {name} is served at {url}{'' if has_text else ', token ids only'}", file=sys.stderr, flush=True)


async def _drain(engine: AsyncEngine, gate: Gate, timeout: float) -> None:
    """No new requests; those that run may end, and their last bytes be sent."""
    log.info("draining: no new requests, at most %g s for those that run", timeout)
    gate.is_draining = True
    if not await engine.drain(timeout):
        log.warning("requests that still ran after %g s were cancelled", timeout)
    deadline = time.monotonic() + LAST_BYTES_S
    while gate.active > 0 and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


def _allow_files(count: int) -> None:
    """As many open files, if the limits of the process let it."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = count if most == resource.RLIM_INFINITY else min(count, most)
    if allowed != resource.RLIM_INFINITY and allowed < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, most))


def _listener(host: str, port: int) -> socket.socket:
    """Bound, so that an address that cannot be had is known before a model is loaded; nobody can connect yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sends small pieces at once where it knows that it is TCP
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        raise OSError(f"{host}:{port}: {error.strerror or error}") from None
