"""The interface of today against the headers of 0.1: members keep their place, enumerators their value, functions their
type; frozen structs, those that do not begin with `size`, keep their length. Usage: layout_test.py CC OLD NEW"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

import headers

CC, OLD, NEW = sys.argv[1:4]
GROWING = {"QUIRE_WAIT_REASONS", "QUIRE_VERSION_MAJOR"}  # counts, which a later release may raise


def measure(folder, structs, enumerators):
    """{"struct.member": (offset, bytes), "struct": (0, bytes), "ENUMERATOR": value}, as the compiler sees it."""
    lines = []
    for name, members in structs.items():
        lines.append(f'printf("{name} 0 %zu\\n", sizeof({name}));')
        lines += [f'printf("{name}.{m} %zu %zu\\n", offsetof({name}, {m}), sizeof((({name} *)0)->{m}));' for m in members]
    lines += [f'printf("{e} 0 %lld\\n", (long long){e});' for e in enumerators]
    with tempfile.TemporaryDirectory() as scratch:
        source, program = pathlib.Path(scratch, "measure.c"), pathlib.Path(scratch, "measure")
        source.write_text("#include <stdio.h>\n#include <quire/quire.h>\nint main(void) {\n" + "\n".join(lines) + "\n}\n")
        subprocess.run([CC, "-std=c17", f"-I{folder}", source, "-o", program], check=True)
        output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: (int(offset), int(size)) for name, offset, size in map(str.split, output.splitlines())}


class Layout(unittest.TestCase):
    maxDiff = None

    def test_members_and_enumerators_are_where_they_were(self):
        structs, enumerators = headers.structs(OLD), set(headers.enumerators(OLD)) - GROWING
        old, new = measure(OLD, structs, enumerators), measure(NEW, structs, enumerators)
        growing = {name for name, members in structs.items() if members[0] == "size"}
        moved = {name: (was, new[name]) for name, was in old.items() if name not in growing and new[name] != was}
        self.assertEqual(moved, {}, "changed since 0.1 (while that is unreleased: tools/freeze_headers.py)")
        for name in growing:
            self.assertGreaterEqual(new[name][1], old[name][1], name)

    def test_no_struct_with_a_size_ends_in_padding(self):
        """A field that went there later would not change the size, and old programs leave anything in it."""
        structs = {name: members for name, members in headers.structs(NEW).items() if members[0] == "size"}
        self.assertGreater(len(structs), 10)
        now = measure(NEW, structs, [])
        for name, members in structs.items():
            with self.subTest(name):
                self.assertEqual(sum(now[f"{name}.{members[-1]}"]), now[name][1])

    def test_functions_keep_their_types(self):
        old = headers.functions(OLD)
        self.assertGreater(len(old), 40)
        source = "#include <quire/quire.h>\n" + "".join(f"QUIRE_API {function};\n" for function in old)
        subprocess.run([CC, "-std=c17", f"-I{NEW}", "-x", "c", "-fsyntax-only", "-"], input=source, text=True, check=True)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
