#!/usr/bin/env python3
"""examples/http_server, built against an installed quire: tokens as they come, bad bodies, clients that go away, SIGTERM.
http_server_test.py SERVE"""
import concurrent.futures
import http.client
import json
import signal
import subprocess
import sys
import time
import unittest

SERVE = sys.argv.pop(1)


class Server(unittest.TestCase):
    def setUp(self):
        self.process = subprocess.Popen([SERVE, "tiny", "0"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().removeprefix("port "))

    def tearDown(self):
        self.process.kill()
        self.process.communicate()

    def ask(self, body, path="/generate", method="POST"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body)
        return connection.getresponse()

    def generate(self, prompt, count):
        response = self.ask(json.dumps({"prompt": prompt, "max_tokens": count}))
        self.assertEqual(response.status, 200)
        lines = [json.loads(line) for line in response.read().splitlines()]
        return [line["token"] for line in lines[:-1]], lines[-1]

    def stats(self):
        return json.loads(self.ask(None, "/stats", "GET").read())

    def test_many_clients_get_the_tokens_that_one_gets_alone(self):
        prompts = [[1 + i, 2, 3, i] for i in range(16)]
        alone = [self.generate(prompt, 12) for prompt in prompts]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            together = list(pool.map(lambda prompt: self.generate(prompt, 12), prompts))
        self.assertEqual(together, alone)
        self.assertTrue(all(len(tokens) == 12 and end == {"finish": "length"} for tokens, end in alone))

    def open_streams(self, count=12):
        """Long answers, of which the first tokens have come: together they take a while."""
        streams = [self.ask('{"prompt": [%d], "max_tokens": 1900}' % i) for i in range(count)]
        for stream in streams:
            self.assertIn("token", json.loads(stream.readline()))
        return streams

    def test_tokens_come_as_they_are_made(self):
        streams = self.open_streams()
        self.assertGreater(self.stats()["running"], 0)
        ends = {json.loads(stream.read().splitlines()[-1])["finish"] for stream in streams}
        self.assertLessEqual(ends, {"length", "stop"})
        self.assertIn("length", ends)

    def test_bad_requests_are_answered_and_leave_the_server_well(self):
        for body, words in (("", "end of file"), ("{", "string or '}' expected"), ("[]", "Expected object"), ("{}", "prompt"),
                            ('{"prompt": 7}', "prompt: expected 1 to 32768 token ids"), ('{"prompt": []}', "prompt: expected"),
                            ('{"prompt": ["a"]}', "a token id is an integer"), ('{"prompt": [1.5]}', "a token id is an integer"),
                            ('{"prompt": [99999999999]}', "a token id is an integer"), ('{"prompt": [-1]}', "prompt"),
                            ('{"prompt": [1000000]}', "prompt"), ('{"prompt": [1], "max_tokens": 0}', "max_tokens: expected 1 to 4096"),
                            ('{"prompt": [1], "max_tokens": "x"}', "Expected integer"), ('{"prompt": [1], "x": 1}', "x"),
                            ('{"prompt": [1], "prompt": [2]}', "duplicate"), ('{"prompt": [%s]}' % ("1," * 40000 + "1"), "prompt: expected"),
                            (" " * (1 << 20), "longer than 256 KiB")):
            response = self.ask(body)
            answer = json.loads(response.read())
            self.assertEqual(response.status, 400, answer)
            self.assertIn(words, answer["error"])
        response = self.ask("{}", "/other")
        self.assertEqual((response.status, list(json.loads(response.read()))), (404, ["error"]))
        self.assertEqual(len(self.generate([1, 2], 3)[0]), 3)

    def test_clients_that_go_away_cancel_their_requests(self):
        for stream in self.open_streams():
            stream.close()
        until = time.monotonic() + 20
        while self.stats()["running"] and time.monotonic() < until:
            time.sleep(0.02)
        stats = self.stats()
        self.assertEqual(stats["running"], 0)
        self.assertGreater(stats["cancelled"], 0)

    def test_sigterm_ends_what_runs_and_the_process(self):
        streams = self.open_streams()
        self.process.send_signal(signal.SIGTERM)
        ends = {json.loads(stream.read().splitlines()[-1])["finish"] for stream in streams}
        self.assertLessEqual(ends, {"cancelled", "length", "stop"})
        self.assertIn("cancelled", ends)
        self.assertEqual(self.process.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
