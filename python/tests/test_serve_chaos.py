"""Many clients with bad habits at once, for 20 seconds; serve_chaos.py is the long form."""
import asyncio

import pytest

pytest.importorskip("starlette")
import serve_chaos  # noqa: E402
from serving import SMALL, Server  # noqa: E402


def test_nothing_is_lost_to_clients_with_bad_habits(tmp_path):
    server = Server("tiny", *SMALL, "--body-timeout", "2", "--stall-timeout", "2", "--log-level", "warning", log=tmp_path / "log")
    try:
        counts, wrong, memory = asyncio.run(serve_chaos.run(server, 20, 64, seed=1))
        assert not wrong
        assert {habit for habit, _ in counts} == {habit.__name__ for habit in serve_chaos.Client.HABITS}
        assert counts["whole", "right"] > 20 and counts["stream", "right"] > 20
        assert not serve_chaos.finish(server)
    finally:
        server.close()
