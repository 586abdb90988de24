"""What the tests of the interface read from public headers: structs with their members, enumerators, functions."""
import pathlib
import re

STRUCT = re.compile(r"typedef struct (quire_\w+) \{(.*?)\} \1;", re.S)


def text_of(folder):
    text = "".join(path.read_text() for path in sorted(pathlib.Path(folder, "quire").glob("*.h")))
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def member_names(declaration):
    """Of "uint32_t a, *b, c[3]" and "void (*d)(int)"."""
    pointer = re.search(r"\(\*(\w+)\)", declaration)
    if pointer:
        return [pointer.group(1)]
    return [re.search(r"(\w+)\s*(\[[^]]*\])?$", part.strip()).group(1) for part in declaration.split(",")]


def structs(folder):
    """{name: [member, ...]} in the order of declaration."""
    return {name: [member for declaration in body.split(";") if declaration.strip()
                   for member in member_names(declaration)] for name, body in STRUCT.findall(text_of(folder))}


def enumerators(folder):
    return re.findall(r"\b(QUIRE_\w+)\s*=", text_of(folder))


def functions(folder):
    return [" ".join(found.split()) for found in re.findall(r"^QUIRE_API ([^{}#]*?\));", text_of(folder), re.M)]
