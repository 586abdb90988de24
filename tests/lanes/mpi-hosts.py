#!/usr/bin/env python3
"""Ranks on two hosts, over TCP: two network namespaces of this machine, joined directly, and by a network that takes 1 and
10 ms for each packet. The answers are those of one rank, byte for byte; the table says what a step and its messages take.
Needs root, iproute2 and /dev/net/tun.

usage: mpi-hosts.py short|long QUIRE TUN_DELAY"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FORM, QUIRE, TUN_DELAY = sys.argv[1], os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3])
MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
MODEL, LAYERS = "llama3-gqa", 3
SPACES = f"quire-a-{os.getpid()}", f"quire-b-{os.getpid()}"
DIRECT, DELAYED = "10.77.0.", "10.78.0."  # the namespaces' addresses end in 1 and 2
TIMEOUT = 300
TOKENS = {0: 48, 1000: 48, 10000: 24}  # of a request, by microseconds of delay
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def make_network():
    for space in SPACES:
        ip("netns", "add", space)
        ip("-n", space, "link", "set", "lo", "up")
    ip("link", "add", "va", "netns", SPACES[0], "type", "veth", "peer", "name", "vb", "netns", SPACES[1])
    for number, (space, device) in enumerate(zip(SPACES, ("va", "vb")), 1):
        ip("-n", space, "addr", "add", f"{DIRECT}{number}/24", "dev", device)
        ip("-n", space, "link", "set", device, "up")


def remove_network():
    for space in SPACES:
        subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL)


def shell_of(folder):
    """What mpirun starts processes on the other host with, in the place of ssh."""
    script = folder / "enter"
    script.write_text(f"""#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
case $1 in *.1) space={SPACES[0]};; *.2) space={SPACES[1]};; *) echo "no namespace for $1" >&2; exit 1;; esac
shift
exec ip netns exec $space sh -c "$*"
""")
    script.chmod(0o755)
    return script


def requests(tokens):
    lines = [{"id": str(i), "prompt": [1 + i, 2, 3], "max_tokens": tokens, "ignore_eos": True, "seed": i,
              "temperature": i % 2, "logits": "last"} for i in range(8)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def generate(text, before=()):
    command = [*before, QUIRE, "generate", "--model", str(MODELS / MODEL), "--set", "topology.threads=1", "--set",
               "topology.bind=none", "--set", "kv_cache.num_kv_blocks=64"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT)
    if done.returncode != 0:
        sys.exit(f"mpi-hosts: {' '.join(map(str, command))}\nstatus {done.returncode}\n{done.stderr[-3000:]}")
    answers = sorted(map(json.loads, done.stdout.splitlines()), key=lambda answer: answer["id"])
    kept = [{key: value for key, value in answer.items() if not key.endswith("_ms")} for answer in answers]
    return "".join(json.dumps(answer) + "\n" for answer in kept), done.stderr


def mpirun(folder, network):
    """Rank 0 in the first namespace, rank 1 in the second; `network` carries what the ranks say. Unbound: mpirun takes the
    two for hosts of their own and binds both ranks to their first core, which is one here."""
    return ["ip", "netns", "exec", SPACES[0], "mpirun", "-np", "2", "--bind-to", "none", "--host", f"{DIRECT}1:1,{DIRECT}2:1", "--mca",
            "plm_rsh_agent", shell_of(folder), "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", f"{network}0/24",
            "--mca", "oob_tcp_if_include", f"{DIRECT}0/24", "--mca", "mpi_yield_when_idle", "1"]


def check(folder, delay_us):
    text = requests(TOKENS[delay_us])
    expected, _ = generate(text)
    found, printed = generate(text, mpirun(folder, DELAYED if delay_us else DIRECT))
    (folder / "one").write_text(expected)
    (folder / "two").write_text(found)
    if subprocess.run(["cmp", folder / "one", folder / "two"]).returncode != 0:
        sys.exit(f"mpi-hosts: with {delay_us} us of delay the answers are others")
    steps = int(re.search(r"quire: (\d+) steps", printed)[1])
    seconds = float(re.search(r"tokens? in ([\d.]+) s", printed)[1])
    messages, waited = re.search(r"([\d.]+) messages and \d+ bytes a step, ([\d.]+) ms waiting", printed).groups()
    least = (4 * LAYERS + 2) * delay_us / 1e3  # all but what rank 0 sends without waiting, and one that is under way then
    if float(waited) < least:
        sys.exit(f"mpi-hosts: with {delay_us} us of delay only {waited} ms of a step were waited, at least {least} must be")
    print(f"{delay_us / 1e3:5.0f} ms {1e3 * seconds / steps:10.2f} ms {messages:>9} {waited:>12} ms {least:>10.1f} ms   "
          f"equal bytes", flush=True)


def main():
    if os.geteuid() != 0:
        sys.exit("mpi-hosts: network namespaces need root")
    print("delay        step  messages   waited, a step   at least    answers")
    try:
        make_network()
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            check(folder, 0)
            for delay_us in (1000, 10000):
                relay = subprocess.Popen([TUN_DELAY, SPACES[0], f"{DELAYED}1/24", SPACES[1], f"{DELAYED}2/24", str(delay_us)],
                                         stdout=subprocess.PIPE, text=True)
                try:
                    if relay.stdout.readline() != "up\n":
                        sys.exit("mpi-hosts: the network with a delay does not come up")
                    check(folder, delay_us)
                finally:
                    relay.kill()
                    relay.wait()
    finally:
        remove_network()


main()
