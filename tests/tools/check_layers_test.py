#!/usr/bin/env python3
"""tools/check_layers.py on a tree of a few lines: silent when it is sound, and one sentence for each rule it breaks.
usage: check_layers_test.py CHECK_LAYERS"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = sys.argv.pop(1)
SOUND = {
    "include/quire/api.h": "",
    "include/quire/status.h": '#include "quire/api.h"\n',
    "include/quire/engine.h": '#include "quire/status.h"\n',
    "include/quire/stats.h": '#include "quire/engine.h"\n',
    "base/bits.h": '#include "quire/status.h"\nint qr_bits(int a);\nstatic inline int qr_one(void) { return 1; }\n',
    "base/bits.c": '#include "base/bits.h"\n\nint qr_bits(int a)\n{\n    return a;\n}\n',
    "kernels/attention.c": '#include "base/bits.h"\n#include "dnnl.h"\n',
    "engine/engine.c": '#include "kernels/attention.h"\n#include "quire/stats.h"\n',
    "bench/result/result.h": '#include "bench/run/run.h"\n',
    "bench/micro/micro.c": '#include "kernels/attention.h"\n',
}


class Walls(unittest.TestCase):
    def check(self, changes):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**SOUND, **changes}.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            done = subprocess.run([sys.executable, CHECK, folder], capture_output=True, text=True)
            return done.returncode, done.stdout.replace(folder + "/", "") + done.stderr

    def refused(self, expected, **changes):
        status, output = self.check({name.replace("__", "/").replace("_h", ".h").replace("_c", ".c"): text
                                     for name, text in changes.items()})
        self.assertEqual(output, expected + "\n")
        self.assertEqual(status, 1)

    def test_a_sound_tree_passes_in_silence(self):
        self.assertEqual(self.check({}), (0, ""))

    def test_includes_go_downwards(self):
        self.refused("base/up.c:2: base/ must not include kernels/kernels.h", base__up_c='\n#include "kernels/kernels.h"\n')
        self.refused("cache/side.h:1: cache/ must not include scheduler/plan.h", cache__side_h='#include "scheduler/plan.h"')

    def test_bench_has_an_order_of_its_own(self):
        self.refused("bench/run/run.c:1: bench/run/ must not include bench/result/result.h",
                     bench__run__run_c='#include "bench/result/result.h"')

    def test_a_third_party_header_stays_in_its_module(self):
        self.refused("model/json.c:1: hwloc.h belongs to topology", model__json_c="#include <hwloc.h>")

    def test_lower_modules_do_not_see_the_engine(self):
        self.refused("kernels/k.h:1: kernels/ must not see quire/engine.h", kernels__k_h='#include "quire/engine.h"')
        self.refused("topology/t.h:1: topology/ must not see quire/engine.h", topology__t_h="#include <quire/engine.h>")

    def test_nor_through_another_public_header(self):
        self.refused("kernels/s.h:1: kernels/ must not see quire/engine.h (through quire/stats.h)",
                     kernels__s_h='#include "quire/stats.h"')

    def test_a_header_declares_what_its_folder_defines(self):
        self.refused("engine/bits.h:3: qr_bits is defined in base/",
                     engine__bits_h="/* int qr_one(void); */\nint\nqr_bits(int a) __attribute__((pure));\n")
        self.refused("bench/result/table.h:1: qr_table is defined in bench/report/",
                     bench__result__table_h="void qr_table(void);",
                     bench__report__table_c="void qr_table(void)\n{\n}\n")


unittest.main()
