"""Copies of a model's folder with other tensors, settings or files."""
import json
import struct
from pathlib import Path


def read_tensors(path):
    """name -> (dtype, shape, bytes), of one file."""
    data = Path(path).read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[8 + size:][slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def write_tensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


class Checkpoint:
    """A model in memory: config, other JSON files by name, tensors."""

    def __init__(self, folder):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.files = {}
        self.tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            self.tensors |= read_tensors(path)

    def write(self, folder):
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        for name, value in {"config.json": self.config, **self.files}.items():
            (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
        write_tensors(folder / "model.safetensors", self.tensors)
        return str(folder)

    def write_shards(self, folder, first, second, index):
        """first and second: names of the tensors in each; index: name -> 1 or 2."""
        self.write(folder)
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        for name, part in zip(names, (first, second)):
            write_tensors(Path(folder) / name, {t: self.tensors[t] for t in part})
        weight_map = {tensor: names[number - 1] for tensor, number in index.items()}
        (Path(folder) / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        (Path(folder) / "model.safetensors").unlink()
        return str(folder)
