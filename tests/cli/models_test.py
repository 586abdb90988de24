#!/usr/bin/env python3
"""`quire models`: the list that loading goes by, and docs/MODELS.md. Usage: models_test.py TOOL MODELS"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

TOOL, MODELS = sys.argv.pop(1), pathlib.Path(sys.argv.pop(1))
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments, environment={}):
    return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment})


def listed():
    return {model["model_type"]: model for model in json.loads(run("models", "--json").stdout)["models"]}


class Models(unittest.TestCase):
    def test_the_types_are_those_that_loading_names(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "config.json").write_text('{"model_type": "none"}')
            pathlib.Path(folder, "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
            refused = run("check", "--model", folder).stderr
        self.assertEqual(re.search("only (.*)", refused)[1].split(", "), list(listed()))

    def test_every_preset_is_there_once(self):
        offered = run("check", environment={"QUIRE_COMPLETE": "--model"}).stdout.split()
        self.assertEqual(sorted(offered), sorted(name for model in listed().values() for name in model["presets"]))

    def test_every_model_that_is_tested_has_its_kind_and_class(self):
        models = listed()
        for path in MODELS.glob("*/config.json"):
            config = json.loads(path.read_text())
            model = models[config["model_type"]]
            shape = run("check", "--model", path.parent).stdout
            kind = ("encoder-decoder" if " encoder layers" in shape else
                    "mixture of experts" if " of them for a token" in shape else "decoder-only")
            self.assertEqual((model["kind"], path.parent.name), (kind, path.parent.name))
            self.assertLessEqual(set(config.get("architectures", [])), set(model["classes"]), path)

    def test_the_table_for_people_has_the_same(self):
        table = run("models").stdout
        for name, model in listed().items():
            lines = re.search(rf"^{name} .*\n( .*\n)*", table, re.MULTILINE)[0]
            for word in (model["kind"], model["about"], *model["classes"], *model["presets"]):
                self.assertIn(word, lines)
            self.assertEqual("GGUF" in lines, model["gguf"])

    def test_documents_show_what_the_tool_prints(self):
        done = subprocess.run([ROOT / "tools" / "write_command_docs.py", TOOL, "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
