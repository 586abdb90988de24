"""Headers as an earlier or a later release would have them: each struct that begins with `size` lacks its last member, or
has one more. Usage: other_headers.py FROM TO older|newer"""
import pathlib
import re
import sys

import headers

source, target, which = pathlib.Path(sys.argv[1], "quire"), pathlib.Path(sys.argv[2], "quire"), sys.argv[3]


def change(match):
    name, body = match.groups()
    members = [m for m in body.split(";") if m.strip()]
    if members[0].split()[-1] != "size":
        return match.group(0)
    members = members[:-1] if which == "older" else members + ["\n    uint64_t from_the_future[3]"]
    return f"typedef struct {name} {{{';'.join(members)};\n}} {name};"


target.mkdir(parents=True, exist_ok=True)
for header in source.glob("*.h"):
    text = re.sub(r"/\*.*?\*/", " ", header.read_text(), flags=re.S)
    pathlib.Path(target, header.name).write_text(headers.STRUCT.sub(change, text))
