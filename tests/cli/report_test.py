#!/usr/bin/env python3
"""`quire report` from outside: what a page holds, that it needs nothing else, and files that are no results. In Chromium,
where there is one: no complaint on the console, no request, figures drawn, and tables without scripts.

usage: report_test.py QUIRE [unittest options]"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import browser

QUIRE = str(pathlib.Path(sys.argv[1]).resolve())
HOSTILE = "</script><script>document.title='taken'</script><!-- ' \" &"


def quire(*arguments, cwd, stdout=subprocess.PIPE):
    return subprocess.run([QUIRE, *arguments], cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, timeout=120)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        done = quire("bench", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=512", "--profile", "concurrent",
                     "--streams", "4", "--num-prompts", "24", "--prompt-tokens", "40", "--output-tokens", "8",
                     "--set", "slo.ttft=50", "-o", "r.json", "-o", "r.requests.jsonl", "-o", "r.steps.jsonl",
                     "-o", "direct.html", cwd=cls.path)
        assert done.returncode == 0, done.stderr.decode()
        cls.result = json.loads((cls.path / "r.json").read_text())

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def write(self, name, value):
        (self.path / name).write_text(value if isinstance(value, str) else json.dumps(value))
        return name

    def page(self, *files):
        done = quire("report", *files, "-o", "page.html", cwd=self.path)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return (self.path / "page.html").read_text()

    def refused(self, *files):
        """One line on stderr, exit 2, and nothing written."""
        (self.path / "none.html").unlink(missing_ok=True)
        done = quire("report", *files, "-o", "none.html", cwd=self.path)
        message = done.stderr.decode()
        self.assertEqual((done.returncode, message.count("\n")), (2, 1), message)
        self.assertFalse((self.path / "none.html").exists())
        return message


class Report(Base):
    def test_the_tables_hold_the_numbers_of_the_result(self):
        page = self.page("r.json")
        self.assertIn("<strong>INVALID</strong>", page)
        for word in ("TTFT", "E2E", "quire bench --model tiny", "KV max %"):
            self.assertIn(word, page)
        self.assertIn(f"<td>{self.result['runs'][0]['latency']['itl']['n']}</td>", page)

    def test_the_logs_come_as_columns_of_equal_length(self):
        run = data_of(self.page("r.json"))[0]["runs"][0]
        for kind in ("requests", "steps"):
            log = run["log"][kind]
            lines = (self.path / f"r.{kind}.jsonl").read_text().splitlines()
            self.assertEqual(log["count"], len(lines))
            self.assertEqual({len(column) for column in log["columns"].values()}, {log["shown"]})
            for name in ("e", "num_output_tokens") if kind == "requests" else ("rows", "forward_us"):
                for shown, line in zip(log["columns"][name], lines):
                    self.assertAlmostEqual(shown, json.loads(line)[name], delta=1e-7 * shown)

    def test_a_long_log_is_thinned(self):
        line = json.loads((self.path / "r.steps.jsonl").read_text().splitlines()[0])
        self.write("long.steps.jsonl", "".join(json.dumps(dict(line, t_ns=i)) + "\n" for i in range(7001)))
        self.write("long.json", dict(self.result, logs={}))
        log = data_of(self.page("long.json"))[0]["runs"][0]["log"]["steps"]
        self.assertEqual(log["count"], 7001)
        self.assertLessEqual(log["shown"], 2000)
        self.assertEqual(log["columns"]["t_ns"][:3], [0, 4, 8])

    def test_bench_writes_the_same_page_as_report(self):
        direct = data_of((self.path / "direct.html").read_text())[0]
        read = data_of(self.page("r.json"))[0]
        self.assertEqual(direct["runs"][0]["latency"], read["runs"][0]["latency"])
        self.assertEqual(direct["runs"][0]["log"]["steps"]["columns"], read["runs"][0]["log"]["steps"]["columns"])

    def test_nothing_in_a_result_can_break_out(self):
        hostile = json.loads(json.dumps(self.result))
        hostile["context"]["host"] = hostile["model"]["name"] = hostile["config"]["model.preset"] = HOSTILE
        hostile["context"]["command"].append(HOSTILE)
        page = self.page(self.write("hostile.json", hostile))
        self.assertEqual(len(re.findall("<script", page)), 3)
        self.assertEqual(len(re.findall("</script", page)), 3)
        self.assertEqual(data_of(page)[0]["model"]["name"], HOSTILE)

    def test_the_page_names_no_other_file(self):
        page = self.page("r.json")
        self.assertEqual(re.findall(r'(?:src|href)="(?!data:)[^"]*"', page), [])
        self.assertNotIn("@import", page)

    def test_three_loads_are_a_sweep_and_two_results_a_comparison(self):
        points = [json.loads(json.dumps(self.result)) for _ in range(3)]
        for streams, point in enumerate(points, 1):
            point["config"]["load.streams"] = streams
        sweep = self.write("sweep.jsonl", "".join(json.dumps(point) + "\n" for point in points))
        page = self.page(sweep)
        self.assertIn('<section id="sweep"', page)
        self.assertNotIn('<section id="comparison"', page)
        page = self.page("r.json", self.write("other.json", points[0]))
        self.assertIn('<section id="comparison"', page)
        self.assertIn("load.streams", page)
        self.assertNotIn('<section id="comparison"', self.page("r.json"))

    def test_a_result_with_nothing_in_it_gives_dashes(self):
        page = self.page(self.write("bare.json", {"schema": "quire.result/1", "runs": [{"latency": {}}]}))
        self.assertIn("<td>\u2013</td>", page)

    def test_files_that_are_no_results_are_refused(self):
        self.assertIn("not a result of quire", self.refused(self.write("foreign.json", {"request_throughput": 3})))
        self.assertIn("not a result of quire", self.refused(self.write("list.json", [1, 2])))
        self.assertIn("quire.result/2", self.refused(self.write("newer.json", {"schema": "quire.result/2"})))
        self.assertIn("holds no run", self.refused(self.write("empty.json", {"schema": "quire.result/1", "runs": []})))
        self.assertIn("runs[0] is a number", self.refused(self.write("odd.json", {"schema": "quire.result/1", "runs": [7]})))
        self.assertIn("cut.json:", self.refused(self.write("cut.json", json.dumps(self.result)[:200])))
        self.assertIn("r.steps.jsonl: a log", self.refused("r.steps.jsonl"))
        self.assertIn("r.csv", self.refused(self.write("r.csv", "a,b")))
        self.assertIn("No such file", self.refused("missing.json"))
        self.assertIn("sweep2.jsonl:2", self.refused(self.write("sweep2.jsonl", json.dumps(self.result) + "\n{}\n")))
        self.assertIn("nothing.jsonl: empty", self.refused(self.write("nothing.jsonl", "")))
        self.refused("r.json", "foreign.json")

    def test_a_broken_log_is_refused_with_its_line(self):
        self.write("b.json", dict(self.result, logs={}))
        lines = (self.path / "r.steps.jsonl").read_text().splitlines(True)
        self.write("b.steps.jsonl", lines[0] + '{"rows": "many"}\n')
        self.assertIn("b.steps.jsonl:2:", self.refused("b.json"))

    def test_what_never_ends_is_not_read(self):
        os.mkfifo(self.path / "pipe.json")
        (self.path / "folder.json").mkdir(exist_ok=True)
        self.assertIn("pipe.json: a FIFO", self.refused("pipe.json"))
        self.assertIn("folder.json: a folder", self.refused("folder.json"))
        for named, kind in (("/dev/zero", "a character device"), ("pipe.json", "a FIFO")):
            self.write("endless.json", dict(self.result, logs={"steps": named}))
            self.assertIn(f"endless.json: logs/steps: {named}: {kind}, expected a regular file", self.refused("endless.json"))
        for name, size, word in (("long", 65 << 20, "sparse.steps.jsonl:1: a line longer than 64 MiB"),
                                 ("large", 9 << 30, "sparse.steps.jsonl: 9216 MiB, the most that is read is 4096 MiB")):
            with open(self.path / "sparse.steps.jsonl", "w") as sparse:
                sparse.truncate(size)
            self.assertIn(word, self.refused(self.write("sparse.json", dict(self.result, logs={}))), name)

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = quire("report", "r.json", "-o", "-", cwd=self.path, stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertIn("stdout", done.stderr.decode())
        done = quire("report", "r.json", "-o", "no/such/folder.html", cwd=self.path)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no/such/folder.html", done.stderr.decode())


@unittest.skipUnless(browser.CHROMIUM, "Chromium is not installed")
class InTheBrowser(Base):
    def open(self, page, **options):
        with browser.Browser(**options) as window:
            window.open(self.path / page)
            shown = window.evaluate("[...document.querySelectorAll('figure')].filter(f => f.offsetHeight > 0).length")
            return window.complaints, window.requests, shown, window.evaluate("document.title")

    def test_it_loads_without_complaint_or_request(self):
        self.page("r.json")
        for scheme in ("light", "dark"):
            complaints, requests, shown, _ = self.open("page.html", scheme=scheme)
            self.assertEqual(complaints, [])
            self.assertEqual([url for url in requests if not url.startswith("data:")],
                             [(self.path / "page.html").resolve().as_uri()])
            self.assertGreaterEqual(shown, 18)

    def test_hostile_text_stays_text(self):
        hostile = json.loads(json.dumps(self.result))
        hostile["model"]["name"] = HOSTILE
        self.page(self.write("hostile.json", hostile))
        complaints, _, _, title = self.open("page.html")
        self.assertEqual(complaints, [])
        self.assertTrue(title.startswith("</script>"), title)

    def test_an_empty_result_draws_nothing_and_does_not_fail(self):
        self.page(self.write("bare.json", {"schema": "quire.result/1", "runs": [{"latency": {}}]}))
        complaints, _, shown, _ = self.open("page.html")
        self.assertEqual((complaints, shown), ([], 0))

    def test_without_scripts_the_tables_are_there_and_no_empty_figures(self):
        self.page("r.json")
        with browser.Browser(scripts=False) as window:
            window.open(self.path / "page.html")
            height = window.call("Page.getLayoutMetrics")["cssContentSize"]["height"]
            self.assertEqual(window.complaints, [])
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            self.assertGreater(window.call("Page.getLayoutMetrics")["cssContentSize"]["height"], height + 2000)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
