#!/usr/bin/env python3
"""`quire report` from outside: what a page holds, that it needs nothing else, and files that are no results. In Chromium,
where there is one: no complaint on the console, no request, figures drawn, and tables without scripts.

usage: report_test.py QUIRE [unittest options]"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import browser
import strict_json as json

QUIRE = str(pathlib.Path(sys.argv[1]).resolve())
HOSTILE = "</script><script>document.title='taken'</script><!-- ' \" &"


def quire(*arguments, cwd, stdout=subprocess.PIPE):
    return subprocess.run([QUIRE, *arguments], cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, timeout=120)


def data_of(page):
    """The results that the page's charts are drawn from; those of a page without charts have no data."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])["results"]


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

    def grid(self, **changes):
        """A sweep of streams and of the KV cache's type, in the order in which its points might end."""
        lines = []
        for streams, dtype in ((2, "f32"), (1, "f32"), (4, "f32"), (4, "bf16"), (2, "bf16"), (1, "bf16")):
            point = json.loads(json.dumps(self.result))
            axes = {"load.streams": streams, "kv_cache.dtype": dtype}
            point["config"].update(axes)
            point["sweep"] = {"axes": axes}
            for run in point["runs"]:
                run["throughput"]["output_tokens"]["value"] = 1000.0 * streams + (500 if dtype == "f32" else 0)
                run["slo"]["limits_ms"] = changes.get("limits", run["slo"]["limits_ms"])
            lines.append(json.dumps(point) + "\n")
        return self.write("grid.jsonl", "".join(lines))


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
            for name in ("f", "num_output_tokens") if kind == "requests" else ("rows", "forward_us"):
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

    def test_points_of_a_sweep_are_named_by_their_values_and_in_the_order_of_their_curves(self):
        data = data_of(self.page(self.grid()))
        self.assertEqual([(r["shown_as"], r["x"], r["curve"]) for r in data],
                         [(f"{s} stream{'s' if s > 1 else ''}, dtype={d}", s, f"dtype={d}")
                          for d in ("bf16", "f32") for s in (1, 2, 4)])

    def test_a_command_that_several_results_share_is_shown_once(self):
        points = [json.loads(line) for line in (self.path / self.grid()).read_text().splitlines()]
        points[-1]["context"]["command"] = ["quire", "bench", "other"]
        page = self.page(self.write("sweep.jsonl", "".join(json.dumps(point) + "\n" for point in points)))
        repeat = page[page.index("To repeat"):page.index("</section>", page.index("To repeat"))]
        self.assertEqual(repeat.count("<pre>"), 2, repeat)

    def test_the_table_of_a_sweep_has_every_point(self):
        page = self.page(self.grid())
        rows = re.findall(r'<tr class="invalid"><th scope="row">(\d streams?, dtype=\w+)</th><td class="text">INVALID</td><td>([^<]+)</td>', page)
        self.assertEqual([float(value.replace("\u202f", "")) for _, value in rows], [1000, 2000, 4000, 1500, 2500, 4500])

    def test_failures_stand_before_warnings(self):
        made = json.loads(json.dumps(self.result))
        fails = dict(made["validity"]["checks"][0], ok=False, value=1, need="more", hint="mend")
        made["validity"]["checks"] = [dict(fails, id="mild", severity="warn"), dict(fails, id="grave", severity="invalid")]
        page = self.page(self.write("order.json", made))
        self.assertLess(page.index("<li>grave: "), page.index('<li class="warning">a warning: mild: '))

    def test_numbers_that_are_invalid_look_so(self):
        valid = json.loads(json.dumps(self.result))
        valid["validity"]["result"] = "VALID"
        name = self.write("valid.json", valid)
        alone = self.page("r.json")
        self.assertIn('<main class="invalid">', alone)
        self.assertIn("Not to be quoted: this run is INVALID.", alone)
        self.assertIn('<div class="scroll invalid"><table><thead><tr><th>ms', alone)
        self.assertNotIn('class="invalid', self.page(name))
        both = self.page(name, "r.json")
        self.assertIn("<main>", both)
        self.assertIn('<tr class="invalid"><th scope="row">r (INVALID)</th>', both)
        self.assertIn('<tr><th scope="row">valid</th>', both)

    def test_a_sweep_says_how_many_of_its_results_are_invalid(self):
        self.grid()
        self.assertIn('<strong>INVALID</strong> 6 of 6 results, <a href="#checks">', self.page("grid.jsonl"))
        valid = (self.path / "grid.jsonl").read_text().replace('"result": "INVALID"', '"result": "VALID"')
        self.assertIn("<strong>VALID</strong> all 6 results", self.page(self.write("valid.jsonl", valid)))

    def test_several_sweeps_are_told_apart_and_equal_points_numbered(self):
        self.grid()
        (self.path / "again.jsonl").write_text((self.path / "grid.jsonl").read_text().splitlines(True)[0] * 2)
        names = [r["shown_as"] for r in data_of(self.page("grid.jsonl", "again.jsonl"))]
        self.assertIn("grid: 1 stream, dtype=f32", names)
        self.assertEqual([n for n in names if "again" in n],
                         ["again: 2 streams, dtype=f32", "again: 2 streams, dtype=f32 (2)"])

    def test_what_a_search_found_is_said(self):
        answer = {"schema": "quire.capacity/1", "outcome": "found", "rate": 3.25, "low": 3.0, "high": 3.5,
                  "min_attainment": 0.95, "probes": 9, "requests": 400, "seconds": 120.4}
        probe = dict(self.result, sweep={"axes": {}, "probe": {"rate": 3}})
        page = self.page(self.write("search.jsonl", json.dumps(probe) + "\n" + json.dumps(answer) + "\n"))
        self.assertIn("3.25 requests/s (3 to 3.50): 95 % of the requests meet the SLOs; 9 probes, 400 requests, 120 s", page)
        self.assertIn("empty", self.refused(self.write("answer.jsonl", json.dumps(answer))))

    def test_a_comparison_has_intervals_and_verdicts(self):
        def at(rate, name, *noise):
            result = json.loads(json.dumps(self.result))
            result["validity"]["result"] = "VALID"
            result["runs"] = [json.loads(json.dumps(result["runs"][0])) for own in noise]
            for run, own in zip(result["runs"], noise):
                run["throughput"]["output_tokens"] = {"value": rate * (1 + own), "unit": "tok/s", "ci95": [rate, rate]}
            return self.write(name, result)
        page = self.page(at(1000, "base.json", 0, 0, 0), at(500, "slower.json", 0, 0.01, -0.01),
                         at(1200, "faster.json", 0, -0.01, 0.01))
        slower, faster = re.findall(r'<th scope="row">output_tokens</th>(.*?)</tr>', page[page.index('id="comparison"'):])
        self.assertRegex(slower, "\u00d7 0.500</td><td>0.48\\d to 0.51\\d</td><td class=\"text fail\">worse</td>")
        self.assertRegex(faster, "\u00d7 1.200</td><td>1.1\\d+ to 1.2\\d+</td><td class=\"text pass\">better</td>")
        one = self.page(at(1000, "base.json", 0), at(500, "slower.json", 0))
        self.assertRegex(one, "\u00d7 0.500</td><td>[^<]*</td><td class=\"text\">none</td>")
        self.assertIn("no verdicts: one pair says nothing of what changes between runs", one)

    def test_how_busy_each_thread_was_is_said(self):
        traced = json.loads(json.dumps(self.result))
        traced["runs"][0]["threads"] = [{"thread": 0, "cpu": 7, "busy_s": 3, "barrier_s": 1}]
        row = '<th scope="row">0</th><td>7</td><td>3</td><td>1</td>'
        self.assertIn(row, self.page(self.write("traced.json", traced)))
        self.assertNotIn("At barriers s", self.page("r.json"))

    def test_facts_have_names_and_units(self):
        page = self.page("r.json")
        for name in ("l3_bytes", "read_bytes", "num_blocks", "isa_cap", "read_gbs", "kv_bytes_per_token"):
            self.assertNotIn(name, page[:page.index('id="data"')])
        self.assertRegex(page, r'<th scope="row">KV cache</th><td class="text">[0-9.]+ [KMG]iB</td>')
        self.assertRegex(page, r"Bandwidth R is measured over [0-9.]+ [KMG]iB")
        self.assertRegex(page, r'<th scope="row">0</th><td class="text">[0-9,-]+</td><td>[0-9.]+ GiB</td>')

    def test_pages_of_an_engine_on_several_nodes_are_facts(self):
        spread = json.loads(json.dumps(self.result))
        names = ("pages_checked", "pages_misplaced", "kv_remote_bytes", "blocks_spilled", "prefix_hits_remote", "attention_helped")
        spread["engine"]["nodes"], spread["engine"]["numa"] = 2, dict(zip(names, (925, 7, 4096, 3, 2, 1)))
        page = self.page(self.write("spread.json", spread))
        self.assertRegex(page, r'<th scope="row">pages looked for</th><td class="text">925</td>')
        self.assertRegex(page, r'<th scope="row">of these on another node than planned</th><td class="text">7</td>')
        self.assertNotIn("pages looked for", self.page("r.json"))

    def simulated(self, name):
        made = json.loads(json.dumps(self.result))
        made["disclosure"]["clock"] = "virtual"
        made["engine"].update(threads=0, batch_invariant=False, scratch_bytes=0)
        made["model"]["weight_bytes"] = 0
        made["cost_model"] = {"fitted_steps": 1020, "held_out_error": {"median": 0.01, "p90": 0.05, "total": 0.0}}
        return self.write(name, made)

    def test_a_simulated_result_is_called_so_wherever_it_stands(self):
        name = self.simulated("virtual.json")
        for files in (("r.json", name), (name, "r.json")):
            page = self.page(*files)
            subtitle = " ".join(re.search(r'class="subtitle">(.*?)</p>', page, re.S)[1].split())
            self.assertIn("1 of 2 results are simulated", subtitle)
            self.assertRegex(page, r"virtual \(simulated\): Virtual clock: times are those of a cost model[^<]*</strong>\s+It was fitted to 1020 steps")
            self.assertIn("off by 1.0 % (median)", page)
            self.assertEqual({r["shown_as"] for r in data_of(page)}, {"r", "virtual (simulated)"})
        self.assertIn("INVALID, SIMULATED</strong>", self.page(name))
        self.assertNotIn("simulated", re.search(r"<main.*?>(.*?)<script", self.page("r.json"), re.S)[1])

    def test_what_is_not_simulated_is_no_fact(self):
        facts = ("results do not depend on the batch", "size of the weights, packed", "scratch memory", "instruction set")
        real, virtual = self.page("r.json"), self.page(self.simulated("virtual.json"))
        for fact in facts:
            self.assertIn(fact, real)
            self.assertNotIn(fact, virtual)
        self.assertIn("stage_s", data_of(real)[0]["runs"][0]["steps"])
        self.assertNotIn("stage_s", data_of(virtual)[0]["runs"][0]["steps"])

    def test_every_member_that_the_page_names_is_in_the_schema(self):
        """A misspelt path would be a column that is never there."""
        root = pathlib.Path(__file__).resolve().parents[2]
        schema = json.loads((root / "docs" / "result.schema.json").read_text())
        ours = {"label", "number", "moved_gbs", "shown_as", "curve", "verdict", "profile", "x"}  # added for the page

        def found(node, path):
            if "$ref" in node:
                return found(schema["$defs"][node["$ref"].rsplit("/", 1)[1]], path)
            if not path or any(found(choice, path) for choice in node.get("anyOf", [])):
                return True
            first, rest = path[0], path[1:]
            if first in node.get("properties", {}):
                return found(node["properties"][first], rest)
            if isinstance(node.get("additionalProperties"), dict):
                return found(node["additionalProperties"], rest)
            if "object" in node.get("type", []) and "properties" not in node:
                return True  # its members are not described
            return "items" in node and found(node["items"], rest if first.isdigit() else path)

        scopes = [schema, schema["properties"]["runs"]["items"]]
        page = (root / "bench" / "report" / "page.html").read_text()
        paths = {line.rsplit(" = ", 1)[1] for tag in re.findall(r"{{(?:table|facts) (.*?)}}", page, re.S) for line in tag.splitlines()[1:]}
        script = (root / "bench" / "report" / "charts.js").read_text()
        paths |= {path for path in re.findall(r"'((?:latency|throughput|steps|slo|series|window|model)/[\w/]*\w)'", script)}
        self.assertGreater(len(paths), 90)
        missing = {path for path in (p.split(":")[0] for p in paths) if path != "@" and path not in ours
                   and not any(found(scope, path.split("/")) for scope in scopes)}
        of_rows = {"bytes", "flops", "floor_s", "measured_s", "fraction", "gbs", "gflops",  # a phase
                   "name", "a", "b",  # a difference
                   "node", "cpus", "memory_bytes", "thread", "cpu", "busy_s", "barrier_s"}
        self.assertEqual(missing - of_rows, set())

    def test_a_result_with_nothing_in_it_gives_dashes(self):
        page = self.page(self.write("bare.json", {"schema": "quire.result/1", "runs": [{"latency": {}}]}))
        self.assertIn("weights \u2013", page)

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
        self.assertIn("missing: No such file", self.refused("missing"))
        self.assertIn("nothing.jsonl: empty", self.refused(self.write("nothing.jsonl", "")))
        self.refused("r.json", "foreign.json")

    def warned(self, *files):
        done = quire("report", *files, "-o", "page.html", cwd=self.path)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stderr.decode().splitlines()

    def test_a_bad_line_of_a_sweep_is_named_and_skipped(self):
        good = json.dumps(self.result)
        sweep = self.write("torn.jsonl", "\n".join([good, good[:300], "{}", good, good[:20] + good]) + "\n" + good[:500])
        warnings = self.warned(sweep)
        self.assertEqual([line.split(": ")[2] for line in warnings], [f"torn.jsonl:{n}" for n in (2, 3, 5, 6)])
        self.assertTrue(all(line.endswith("; the line is skipped") for line in warnings), warnings)
        self.assertEqual(len(data_of((self.path / "page.html").read_text())), 2)
        self.assertIn("none.jsonl:1: not JSON", self.refused(self.write("none.jsonl", good[:300] + "\n")))
        self.assertIn("many.jsonl:102: ", self.refused(self.write("many.jsonl", good + "\n" + "{}\n" * 200)))

    def test_a_bad_line_of_a_log_is_named_and_skipped(self):
        self.write("b.json", dict(self.result, logs={}))
        lines = (self.path / "r.steps.jsonl").read_text().splitlines(True)
        self.write("b.steps.jsonl", lines[0] + '{"rows": "many"}\n')
        (warning,) = self.warned("b.json")
        self.assertIn("b.steps.jsonl:2: not a line of this kind of log; the line is skipped", warning)
        self.assertEqual(data_of((self.path / "page.html").read_text())[0]["runs"][0]["log"]["steps"]["count"], 1)

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
            self.assertGreaterEqual(shown, 14)

    def datasets(self, selector):
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            self.assertEqual(window.complaints, [])
            return window.evaluate(f"(() => {{ const canvas = document.querySelector('{selector} canvas');"
                                   " return canvas && Chart.getChart(canvas).data.datasets.map(d => [d.label, d.data, !!d.hidden]) })()")

    def test_bars_are_named_by_their_percentiles(self):
        self.page("r.json")
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            ticks = window.evaluate("Chart.getChart(document.querySelector('#figure-itl-causes canvas')).scales.y.ticks.map(t => t.label)")
        self.assertEqual(ticks[0], "P50")

    def test_a_sweep_has_a_curve_for_each_value_of_its_second_axis(self):
        self.page(self.grid())
        curves = {label: [(p["x"], p["y"]) for p in data] for label, data, _ in self.datasets("#figure-sweep-throughput")}
        self.assertEqual(curves, {"dtype=f32": [(1, 1500), (2, 2500), (4, 4500)], "dtype=bf16": [(1, 1000), (2, 2000), (4, 4000)]})

    def test_goodput_is_drawn_where_there_are_slos(self):
        self.page(self.grid())
        self.assertEqual(len(self.datasets("#figure-sweep-goodput")), 2)
        self.page(self.grid(limits={"ttft": None}))
        self.assertIsNone(self.datasets("#figure-sweep-goodput"))

    def test_a_legend_names_every_run(self):
        self.grid()
        lines = (self.path / "grid.jsonl").read_text()
        self.page(self.write("twice.jsonl", lines + lines))
        curves = [curve for curve in self.datasets("#figure-ttft") if not curve[0].startswith("SLO")]
        self.assertEqual(len({label for label, _, _ in curves}), 12)
        self.assertEqual(sum(not hidden for _, _, hidden in curves), 8)

    def test_a_legend_of_long_names_stays_above_its_plot(self):
        lines = []
        for streams in range(1, 11):
            point = json.loads(json.dumps(self.result))
            axes = {"load.streams": streams, "workload.trace.path": "a/long/way/to/" + "x" * (90 if streams == 3 else 40)}
            point["config"].update(axes)
            point["sweep"] = {"axes": axes}
            lines.append(json.dumps(point) + "\n")
        self.page(self.write("long.jsonl", "".join(lines)))
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            places = window.evaluate("""[...document.querySelectorAll('#latency figure')].map(figure => {
                const legend = figure.querySelector('.legend'), plot = figure.querySelector('canvas').getBoundingClientRect();
                const ends = [...legend.children].map(name => name.getBoundingClientRect());
                return [legend.textContent, Math.max(...ends.map(e => e.bottom)), plot.top,
                        Math.max(...ends.map(e => e.right)), figure.getBoundingClientRect().right]; })""")
        self.assertGreaterEqual(len(places), 4)
        self.assertIn("x" * 90, places[0][0])
        for _, bottom, top, right, edge in places:
            self.assertLessEqual(bottom, top)
            self.assertLessEqual(right, edge)

    def test_a_click_in_a_legend_hides_a_curve(self):
        self.page(self.grid())
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            hidden = window.evaluate("""(() => { const figure = document.querySelector('#figure-sweep-throughput');
                const chart = Chart.getChart(figure.querySelector('canvas')), name = figure.querySelector('.legend button');
                const states = [[chart.isDatasetVisible(0), name.getAttribute('aria-pressed')]];
                name.click();
                return [...states, [chart.isDatasetVisible(0), name.getAttribute('aria-pressed')]]; })()""")
        self.assertEqual(hidden, [[True, "true"], [False, "false"]])

    def test_a_wide_table_shows_numbers_at_400_pixels_and_that_it_goes_on(self):
        self.page(self.grid())
        with browser.Browser(width=400) as window:
            window.open(self.path / "page.html")
            whole, seen, numbers, sticks = window.evaluate("""(() => {
                const table = document.querySelector('#summary .scroll'), cells = [...table.querySelectorAll('tbody tr:first-child td')];
                const numbers = cells.filter(c => /[0-9]/.test(c.textContent) && c.getBoundingClientRect().right < 400).length;
                table.scrollLeft = 300;
                return [document.documentElement.scrollWidth, getComputedStyle(table).backgroundImage.includes('gradient'),
                        numbers, table.querySelector('tbody th').getBoundingClientRect().left >= 0]; })()""")
        self.assertEqual((whole, seen, sticks), (400, True, True))
        self.assertGreaterEqual(numbers, 2)

    def test_a_goodput_of_zero_has_its_place(self):
        lines = (self.path / self.grid()).read_text().splitlines()
        for number, (line, value) in enumerate(zip(lines, (100.0, 1.0, 0.0, 0.0, 1.0, 100.0))):
            point = json.loads(line)
            for run in point["runs"]:
                run["throughput"]["goodput"] = {"value": value, "unit": "req/s"}
            lines[number] = json.dumps(point)
        self.page(self.write("zero.jsonl", "\n".join(lines) + "\n"))
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            self.assertEqual(window.evaluate("Chart.getChart(document.querySelector('#figure-sweep-goodput canvas')).scales.y.type"),
                             "linear")

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
            rows = window.call("DOM.getDocument", depth=-1)
            self.assertNotIn('"figure"', json.dumps(rows))
        for section in ("latency", "steps", "workload", "checks", "machine", "configuration"):
            part = re.search(rf'<section id="{section}">(.*?)</section>', (self.path / "page.html").read_text(), re.S)[1]
            self.assertGreaterEqual(part.count("<tr"), 2, section)
            self.assertNotIn("<canvas", part)
        with browser.Browser() as window:
            window.open(self.path / "page.html")
            self.assertGreater(window.call("Page.getLayoutMetrics")["cssContentSize"]["height"], height + 2000)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
