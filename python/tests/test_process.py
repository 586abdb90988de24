"""What the package does to its process: imports fast, exits and forks without hanging."""
import subprocess
import sys
import textwrap


QUIET = "import logging; logging.getLogger('quire').setLevel(logging.ERROR)"  # warnings depend on the machine


def run(program, before=QUIET):
    done = subprocess.run([sys.executable, "-c", before + textwrap.dedent(program)], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_import_is_fast():
    """Of the package's part: processor time, so that a busy machine does not count."""
    times = [float(run("""
        import time
        start = time.process_time()
        import quire
        print(time.process_time() - start)
        quire.LLM, quire.AsyncEngine
        """, before="")) for _ in range(5)]
    assert min(times) < 0.1


def test_exit_with_an_open_engine():
    run("""
        import quire
        llm = quire.LLM("tiny", num_kv_blocks=64)
        llm.generate([1, 2], quire.SamplingParams(max_tokens=2))
        """)


def test_exit_in_the_middle_of_requests():
    run("""
        import asyncio, quire
        async def main():
            engine = quire.AsyncEngine("tiny", num_kv_blocks=64)
            class Any:
                def fill(self, row, allowed): pass
            keep = [engine.generate([1, 2], quire.SamplingParams(max_tokens=1000, mask=Any())) for _ in range(8)]
            await anext(keep[0])
        asyncio.run(main())
        """)


def test_exit_while_another_thread_generates():
    run("""
        import contextlib, threading, time, quire
        llm = quire.LLM("tiny", num_kv_blocks=64)
        def generate():
            with contextlib.suppress(quire.EngineClosed):
                while True:
                    llm.generate([1, 2], quire.SamplingParams(max_tokens=1000, ignore_eos=True))
        threading.Thread(target=generate, daemon=True).start()
        time.sleep(0.1)
        """)


def test_a_forked_child_is_told_and_ends():
    out = run("""
        import os, quire
        llm = quire.LLM("tiny", num_kv_blocks=64)
        first = llm.generate([1, 2], quire.SamplingParams(max_tokens=3))[0].outputs[0].token_ids
        child = os.fork()
        if child == 0:
            try:
                llm.generate([1, 2])
            except quire.QuireError as error:
                print(error.status, flush=True)
            raise SystemExit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert llm.generate([1, 2], quire.SamplingParams(max_tokens=3))[0].outputs[0].token_ids == first
        """)
    assert out == "ERR_FORKED\n"


def test_a_forked_child_of_a_serving_process_ends():
    run("""
        import asyncio, os, quire
        async def main():
            async with quire.AsyncEngine("tiny", num_kv_blocks=64) as engine:
                stream = engine.generate([1, 2], quire.SamplingParams(max_tokens=100, ignore_eos=True))
                await anext(stream)
                child = os.fork()
                if child == 0:
                    raise SystemExit(0) if engine is None else os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                assert sum([len(o.outputs[0].token_ids) async for o in stream]) > 0
        asyncio.run(main())
        """)


def test_a_forked_child_ends_at_once_while_the_parent_generates():
    run("""
        import os, threading, time, quire
        llm = quire.LLM("tiny", num_kv_blocks=64)
        thread = threading.Thread(target=lambda: llm.generate([[1, 2]] * 64, quire.SamplingParams(
            max_tokens=900, ignore_eos=True)))
        thread.start()
        time.sleep(0.02)
        start, child = time.monotonic(), os.fork()
        if child == 0:
            try:
                llm.generate([1, 2])
            except quire.QuireError as error:
                raise SystemExit(3 if error.status == "ERR_FORKED" else 4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert time.monotonic() - start < 8
        thread.join()
        """)


def test_keyboard_interrupt_ends_the_requests():
    run("""
        import os, signal, threading, time, quire
        llm = quire.LLM("tiny", num_kv_blocks=64)
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                llm.generate([[1, 2]] * 8, quire.SamplingParams(max_tokens=500, ignore_eos=True))
        except KeyboardInterrupt:
            pass
        time.sleep(0.2)
        assert llm.check() is None and llm.stats()["running"] == llm.stats()["blocks_used"] == 0
        llm.generate([1, 2], quire.SamplingParams(max_tokens=3))
        """)


def test_log_lines_go_to_logging():
    out = run("""
        import logging, sys, quire
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
        quire.LLM("tiny", num_kv_blocks=2, max_num_seqs=1)
        """, before="")
    assert "INFO quire " in out and "WARNING quire " in out
