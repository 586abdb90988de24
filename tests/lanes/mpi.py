#!/usr/bin/env python3
"""The tool under mpirun: the same answers on 1 to 4 ranks, byte for byte; what ranks may not differ in; ranks that die or
stop. All on this machine, with more ranks than it may have cores.

usage: mpi.py short|long QUIRE"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FORM, QUIRE = sys.argv[1], os.path.abspath(sys.argv[2])
LONG = {"short": False, "long": True}[FORM]
MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
TIMEOUT = 300  # of one command; a hang is meant, not a slow machine
DRAFTS = {"scheduler.num_speculative_tokens": 3, "scheduler.prompt_lookup_max": 1}
SETTINGS = {"topology.threads": 1, "topology.bind": "none", "scheduler.max_num_batched_tokens": 24,
            "scheduler.max_num_seqs": 6, "scheduler.watermark": 0, **DRAFTS}
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
KILLED_WITHIN = 5  # seconds until a job ends whose rank was killed


def fail(what, done=None):
    sys.exit(f"mpi: {what}" + (f"\nstatus {done.returncode}\nstderr: {done.stderr[-3000:]}" if done else ""))


def mpirun(*contexts):
    """The command of groups of ranks: (how many, their command)."""
    command = ["mpirun", "--oversubscribe"]
    for number, (ranks, own) in enumerate(contexts):
        command += [":"] * (number > 0) + ["-n", str(ranks), *map(str, own)]
    return command


def generate(model, settings=SETTINGS, *more):
    return [QUIRE, "generate", "--model", model, *more,
            *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]


def run(command, text):
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT)


# ---- the same answers ----

def cases_of(model):
    return json.loads((MODELS / model / "expected.json").read_text())["cases"]


def heads_of(model):
    config = json.loads((MODELS / model / "config.json").read_text())
    return next(config[key] for key in ("num_attention_heads", "num_heads", "decoder_attention_heads") if key in config)


def requests_of(model):
    """Each case as it is, sampled twice, as a beam search, and longer and longer."""
    lines = []
    for number, case in enumerate(cases_of(model)):
        source = {key: case[key] for key in ("encoder_input", "prompt") if key in case}
        plain = {**source, "max_tokens": case["max_tokens"]}
        lines += [{"id": f"{number}", **plain, "logits": "last", "ignore_eos": True},
                  {"id": f"{number}/sampled", **plain, "temperature": 1, "seed": 7, "n": 2, "logprobs": 4},
                  {"id": f"{number}/beams", **plain, "beam_width": 3, "n": 2}]
        lines += [{"id": f"{number}/longer/{copy}", **plain, "max_tokens": case["max_tokens"] + 20 * copy, "ignore_eos": True}
                  for copy in range(1, 4)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def without_times(text):
    """Answers as lines of text, by id: requests end in the order in which they came in, which is by the clock. So is who finds
    what is cached or shared."""
    answers = [json.loads(line) for line in text.splitlines()]
    timed = ("ttft_ms", "e2el_ms", "num_cached_tokens", "num_preemptions", "encoder_shared")
    return "".join(json.dumps({key: value for key, value in answer.items() if key not in timed}, sort_keys=True) + "\n"
                   for answer in sorted(answers, key=lambda answer: answer["id"]))


def blocks_of(model):
    """Few, so that sequences are preempted; a beam search must fit."""
    longest = max(len(case.get("encoder_input", [])) // 32 + (len(case.get("prompt", [0])) + case["max_tokens"] + 60) // 32 + 2
                  for case in cases_of(model))
    beams = max(3 * ((len(case.get("prompt", [])) + case["max_tokens"]) // 32 + 1) for case in cases_of(model))
    return max(2 * longest, beams)


def check_answers(model, dtype, ranks, folder):
    settings = {**SETTINGS, "model.weight_dtype": dtype, "kv_cache.dtype": dtype, "kv_cache.num_kv_blocks": blocks_of(model)}
    text, preempted = requests_of(model), 0
    files = []
    for count in (0, *ranks):
        command = generate(MODELS / model, settings)
        done = run(mpirun((count, command)) if count else command, text)
        if done.returncode != 0:
            fail(f"{model}, {dtype}, {count} ranks", done)
        if count > 1 and f"1 thread on each of {count} ranks" not in done.stderr:
            fail(f"{model}, {dtype}: the summary does not say {count} ranks", done)
        preempted += sum(json.loads(line).get("num_preemptions", 0) for line in done.stdout.splitlines())
        files.append(folder / f"{model}-{dtype}-{count}.jsonl")
        files[-1].write_text(without_times(done.stdout))
        if subprocess.run(["cmp", files[0], files[-1]]).returncode != 0:
            fail(f"{model}, {dtype}: {count} ranks give other answers than one")
        answers = {answer["id"]: answer for answer in map(json.loads, files[-1].read_text().splitlines())}
        for number, case in enumerate(cases_of(model)):
            if dtype == "f32" and answers[str(number)]["tokens"] != case["tokens"]:
                fail(f"{model}, {count} ranks: case {number} has other tokens than the reference")
    return preempted


# ---- what ranks may not differ in ----

PLAIN = {"topology.threads": 1, "topology.bind": "none", "kv_cache.num_kv_blocks": 64}
REQUEST = '{"id": "a", "prompt": [1, 2, 3], "max_tokens": 4}\n'


def other_model(folder):
    """A copy with one value of the weights changed."""
    copy = folder / "other"
    shutil.copytree(MODELS / "qwen2-bias", copy)
    file = copy / "model.safetensors"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    return copy


def other_binary(folder):
    """The same program with another build ID."""
    copy = folder / "quire"
    notes = subprocess.run(["readelf", "-n", QUIRE], capture_output=True, text=True, check=True).stdout
    ours = bytes.fromhex(re.search(r"Build ID: (\w+)", notes)[1])
    copy.write_bytes(pathlib.Path(QUIRE).read_bytes().replace(ours, bytes(len(ours))))
    copy.chmod(0o755)
    os.symlink(pathlib.Path(QUIRE).parent / "libquire_mpi.so.0.1", folder / "libquire_mpi.so.0.1")
    return copy


def refuse(what, contexts, message):
    begun = time.monotonic()
    done = run(mpirun(*contexts), REQUEST)
    if done.returncode == 0 or not re.search(message, done.stderr):
        fail(f"{what}: it does not say {message!r}", done)
    if done.stdout:
        fail(f"{what}: there is output", done)
    said = re.search(f".*{message}.*", done.stderr)[0].strip()
    print(f"  {what:26} {time.monotonic() - begun:4.1f} s  {said[:150]}")


def check_refusals(folder):
    model = MODELS / "qwen2-bias"
    plain = generate(model, PLAIN)
    refuse("another option", [(1, plain), (1, generate(model, {**PLAIN, "scheduler.max_num_seqs": 7}))],
           r"rank 1 on \S+: scheduler.max_num_seqs is 7, but of rank 0 on \S+: scheduler.max_num_seqs is 64")
    refuse("another instruction set", [(1, plain), (1, generate(model, {**PLAIN, "kernels.isa": "avx2"}))],
           r"rank 1 on \S+: the instruction set is avx2, but of rank 0")
    refuse("another model", [(1, plain), (1, generate(other_model(folder), PLAIN))],
           r"rank 1 on \S+: the model's contents are")
    refuse("a model that is not there", [(1, plain), (1, generate(folder / "none", PLAIN))], r"rank 1 on \S+: .*none")
    refuse("another binary", [(1, plain), (1, [other_binary(folder), *plain[1:]])],
           r"rank 1 on \S+: the binary's build ID is 0000")
    refuse("more ranks than heads", [(5, plain)], r"5 ranks, but this model has 4 attention heads")
    bound = {**PLAIN, "topology.bind": "core", "topology.cpus": min(os.sched_getaffinity(0))}
    refuse("the same CPU", [(2, ["--bind-to", "none", *generate(model, bound)])], r"ranks 0 and 1 on \S+ both bind a thread to CPU")
    refuse("another command", [(1, plain), (1, [QUIRE, "bench", "--model", model])],
           r"rank 1 was given the command bench, but rank 0 generate")
    refuse("a command of one rank", [(2, [QUIRE, "perplexity", "--model", model, __file__])], r"perplexity runs on one rank only")
    refuse("a full disk", [(2, generate(model, PLAIN, "-o", "/dev/full"))], r"/dev/full: writing: No space left on device")
    refuse("an input that is not there", [(2, generate(model, PLAIN, "-i", folder / "none.jsonl"))], r"none.jsonl")


# ---- each its share ----

WIDE = {**PLAIN, **{f"model.shape.{key}": value for key, value in
                    {"hidden_size": 1024, "intermediate_size": 4096, "vocab_size": 8192, "num_hidden_layers": 4,
                     "num_attention_heads": 8, "max_position_embeddings": 16384}.items()}, "kv_cache.num_kv_blocks": 600}
WIDE_MB = 2 * (4 * 3 * 4096 * 1024 + 2 * 8192 * 1024) / 1e6  # of weights, nearly


def wait_until_it_steps(job):
    if not any(re.search("engine: .* weights", line) for line in job.stderr):
        fail("the ranks do not start")


def own_megabytes(pid):
    """Of its memory what is no file's, once it has grown to what it needs."""
    before, now = -100.0, 0.0
    while now - before > 1:
        time.sleep(0.4)
        before = now
        now = int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1e3
    return now


def check_shares():
    """What a rank holds in memory shrinks by the weights that the others have."""
    resident = {}
    for ranks in (1, 2, 4):
        job = start(ranks, ENDLESS.replace("100000", "16000"), WIDE)
        wait_until_it_steps(job)
        pids = [process_of(job, rank) for rank in range(ranks)]
        resident[ranks] = max(map(own_megabytes, pids))
        job.terminate()
        job.communicate(timeout=TIMEOUT)
        print(f"  {ranks} rank{'s' * (ranks > 1)}: {resident[ranks]:.0f} MB in memory, the most of a rank")
        if resident[1] - resident[ranks] < 0.8 * WIDE_MB * (1 - 1 / ranks):
            fail(f"{ranks} ranks hold too much of {WIDE_MB:.0f} MB of weights")


# ---- ranks that die or stop ----

ENDLESS = '{"id": "a", "prompt": [1, 2, 3], "max_tokens": 100000, "ignore_eos": true}\n'
LONG_RUN = {**PLAIN, "model.shape.max_position_embeddings": 200000, "kv_cache.num_kv_blocks": 4000}


def start(ranks, text, settings):
    job = subprocess.Popen(mpirun((ranks, generate("tiny", settings))), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    job.stdin.write(text)
    job.stdin.close()
    job.stdin = None
    return job


def process_of(job, rank):
    """Of the rank, once its threads run."""
    for _ in range(300):
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parent = int(re.search(r"PPid:\s+(\d+)", (entry / "status").read_text())[1])
                if parent == job.pid and f"OMPI_COMM_WORLD_RANK={rank}\0" in (entry / "environ").read_text():
                    return int(entry.name)
            except (OSError, TypeError, UnicodeDecodeError):
                continue
        time.sleep(0.1)
    fail("the ranks do not start")


def check_killed(rank):
    job = start(3, ENDLESS, LONG_RUN)
    victim = process_of(job, rank)
    time.sleep(3)
    if job.poll() is not None:
        fail(f"the job ended before rank {rank} was killed: {job.stderr.read()[-2000:]}")
    os.kill(victim, signal.SIGKILL)
    begun = time.monotonic()
    _, errors = job.communicate(timeout=TIMEOUT)
    took = time.monotonic() - begun
    said = re.search(rf".*process rank {rank} with PID \d+ on node \S+ exited on signal 9.*", errors)
    if job.returncode == 0 or took > KILLED_WITHIN or said is None:
        fail(f"rank {rank} was killed: status {job.returncode} after {took:.1f} s\n{errors[-2000:]}")
    print(f"  rank {rank} killed             {took:4.1f} s  {said[0].strip()}")


def check_stopped():
    """A rank that stands still for two seconds: the others wait, and the summary says for how long."""
    text = '{"id": "a", "prompt": [1, 2, 3], "max_tokens": 120000, "ignore_eos": true, "timeout_ms": 5000}\n'
    job = start(2, text, LONG_RUN)
    wait_until_it_steps(job)
    victim = process_of(job, 1)
    time.sleep(1)
    os.kill(victim, signal.SIGSTOP)
    time.sleep(2)
    os.kill(victim, signal.SIGCONT)
    output, errors = job.communicate(timeout=TIMEOUT)
    steps = re.search(r"quire: (\d+) steps.* ([\d.]+) ms waiting for the network", errors)
    if job.returncode != 0 or steps is None or json.loads(output)["finish_reason"] != "timeout":
        fail(f"a rank stood still: status {job.returncode}\n{errors[-2000:]}")
    waited = int(steps[1]) * float(steps[2]) / 1e3
    if waited < 1.8:
        fail(f"a rank stood still for 2 s, but the statistics say {waited:.1f} s of waiting\n{errors[-1000:]}")
    print(f"  rank 1 stopped for 2 s             {waited:.1f} s of waiting in the summary")


def main():
    if shutil.which("mpirun") is None:
        fail("there is no mpirun (openmpi-bin)")
    ranks = 1, 2, 3, 4
    dtypes = "f32", "bf16", "int8"
    jobs = [(model, "f32", ranks) for model in ("llama3-gqa", "t5-gated")]
    jobs += [("llama3-gqa", "bf16", (2, 3)), ("llama3-gqa", "int8", (4,)), ("t5-gated", "bf16", (3,)), ("t5-gated", "int8", (2,))]
    jobs += [("mixtral", "f32", (2, 4)), ("qwen3-moe", "int8", (3,)), ("gpt-oss-mxfp4", "bf16", (2,)), ("olmo2", "f32", (3,))]
    if LONG:
        models = sorted(path.parent.name for path in MODELS.glob("*/expected.json") if path.parent.name != "whisper")  # 64 positions
        jobs = [(model, dtype, ranks[:heads_of(model)]) for model in models for dtype in dtypes]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        preempted = 0
        for model, dtype, counts in jobs:
            preempted += check_answers(model, dtype, counts, folder)
            print(f"{model}, {dtype}: the same bytes on {', '.join(map(str, counts))} ranks and without mpirun", flush=True)
        if preempted == 0:
            fail("no sequence was preempted")
        print(f"{preempted} preemptions")
        print("refused:")
        check_refusals(folder)
    print("shares:")
    check_shares()
    print("faults:")
    for rank in (0, 2) if LONG else (1,):
        check_killed(rank)
    check_stopped()


main()
