"""The module json, but `loads` and `load` refuse an object that holds a key twice."""
import functools
import json
from json import *  # dump, dumps, JSONDecodeError


def unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"keys that appear twice: {sorted({n for n in names if names.count(n) > 1})}")
    return members


loads = functools.partial(json.loads, object_pairs_hook=unique)
load = functools.partial(json.load, object_pairs_hook=unique)
