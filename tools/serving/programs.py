"""Programs that an argument names, by a path or as in a shell."""
import argparse
import os
import pathlib
import shutil

QUIRE = str(pathlib.Path(__file__).resolve().parents[2] / "build/release/quire")  # a string: then argparse looks for it, too


def find(name):
    """Its absolute path: it is started in another folder."""
    path = shutil.which(name)
    if path is None:
        raise argparse.ArgumentTypeError(f"{name!r} is no program{'' if os.sep in name else ' in the PATH'}")
    return os.path.abspath(path)
