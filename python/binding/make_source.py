#!/usr/bin/env python3
"""Writes the C source of the extension quire._quire: all that the public headers declare, and two callbacks.

usage: make_source.py C_COMPILER INCLUDE_FOLDER OUTPUT.c"""
import pathlib
import subprocess
import sys
import tempfile

from cffi import FFI

CALLBACKS = """
extern "Python" void quire_python_log(void *context, quire_log_level level, const char *line);
extern "Python" void quire_python_mask(void *context, const quire_mask_row *row, uint32_t *allowed);
"""


def declarations(compiler, include):
    """The headers as cffi reads them: preprocessed, without attributes and without the headers of the system, whose
    types cffi knows."""
    with tempfile.TemporaryDirectory() as empty:
        for name in ("stdbool.h", "stddef.h", "stdint.h"):
            pathlib.Path(empty, name).touch()
        return subprocess.run([compiler, "-E", "-P", "-std=c17", "-U__GNUC__", "-nostdinc", "-I", empty, "-I", include,
                               f"{include}/quire/quire.h"], check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    compiler, include, output = sys.argv[1:]
    ffi = FFI()
    ffi.cdef(declarations(compiler, include) + CALLBACKS)
    ffi.set_source("quire._quire", "#include <quire/quire.h>")
    ffi.emit_c_code(output)


main()
