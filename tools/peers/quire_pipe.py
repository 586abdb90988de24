"""A `quire generate` that stays: requests go in and their answers come out."""
import json
import os
import pathlib
import subprocess
import threading


def cpu_seconds(process_id):
    """What the process has taken of all CPUs."""
    fields = pathlib.Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Quire:
    def __init__(self, tool, *options):
        self.process = subprocess.Popen([tool, "generate", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, count, requests):
        """`count` answers in the order of their ids, from 0 on. The first requests run while the last are made."""
        sender = threading.Thread(target=self.send, args=[requests])
        sender.start()
        answers = [json.loads(self.line()) for _ in range(count)]
        sender.join()
        for answer in answers:
            if answer["finish_reason"] == "error":
                raise SystemExit(f"quire: {answer}")
        return sorted(answers, key=lambda answer: answer["id"])

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"quire ended with status {self.process.wait()}")
        return line

    def send(self, requests):
        for request in requests:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
