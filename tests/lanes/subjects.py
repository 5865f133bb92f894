"""What is fuzzed: for each parser a corpus, how to mutate it, and what is done with a mutant.

A subject is built in a folder of its own; ``mutant(rng)`` puts files there and gives the path that
``use`` then opens. Both are functions of the generator alone, so that a number replays an input.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import signal
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

import qsdk
from qsdk.cli.data import load_arrays
from qsdk.plan import make_plan

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WHOLE = [0, 1, -1, 2, 7, 8, 63, 64, 127, 128, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**40]
WHOLE += [2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30]
NUMBERS = [*WHOLE, 0.5, 1e308, float("inf"), float("nan")]
TEXTS = [
    "",
    "a",
    "w",
    "affine",
    "squant",
    "F32",
    "é",
    "\0",
    "../x",
    "/etc/hostname",
    ".",
    "a" * 300,
]
TEXTS += ["[" * 2000, "*a" * 40 + "b", "%s%n", "-1", "1e9", "nan"]
BYTES = [b"", b"\0", b"\xff", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80", b"\xed\xa0\x80", b"\n"]
BYTES += [b"PK\x05\x06", *b'{ } [ " , 0 9 -1 1e3 null true'.split()]

KINDS = ["<f4", ">f8", "|O", "<U9", "|V0", "<U0", "[('a', '<f4')]", "<m8[ns]", "x", "<f2", "|S0"]

RECIPES = [
    b"""method = "squant"
exclude = ["con?"]
[options]
bits = 4
signed = true
[[rules]]
match = "fc*"
options = { bits = 8 }
[[rules]]
operation = "Gemm"
keep = true
""",
    b"""method = "rtn"
include = ["conv*", "[a-f]c"]
[options]
bits = 3
group_size = 9
symmetric = false
range_rule = "percentile"
keep_percent = 99.5
""",
    b"""rules = [{ match = "fc", method = "rtn", options = { bits = 2, axis = 0 } }]
options.bits = 0x8
options.narrow_range = false
# a comment
""",
]
WORDS = ["bits", "method", "match", "options", "rules", "x", "keep", "scheme"]
VALUES = [
    "4",
    "8",
    "0",
    "-1",
    "0.5",
    "nan",
    "inf",
    "1e400",
    "true",
    "false",
    "1979-05-27",
    "[]",
    "{}",
]
VALUES += [
    '""',
    "'''",
    "[[1]]",
    '"fc*"',
    '"*"',
    '["*"]',
    '"rtn"',
    '"minmax"',
    "{ bits = 4 }",
    "07:32:00",
]
VALUES += ['"\\ud800"', "9" * 5000, "[" * 500, "{a=" * 300, '"' + "*a" * 50 + 'b"']

LOCATIONS = ["data.bin", "./data.bin", "data.bin/x", "link.bin", "second.bin", "away.bin", "pipe"]
LOCATIONS += ["../away", "/etc/hostname", ".", "", "no.bin", "a" * 300, "\0", "é"]
PLACES = [*map(str, NUMBERS), "", "x", "0x10", "1_0", "\u0663", "9" * 5000, " 4"]
NAMES = [
    "w",
    "x",
    "y",
    "layer",
    "Conv",
    "Gemm",
    "MatMul",
    "DequantizeLinear",
    "Identity",
    "Reshape",
]
NAMES += [
    "Transpose",
    "Constant",
    "qsdk",
    "ai.onnx",
    "axis",
    "block_size",
    "Dequantize_affine",
    "perm",
]


def mutated_bytes(rng: random.Random, data: bytes, low: int = 0, high: int | None = None) -> bytes:
    """A few bytes between ``low`` and ``high`` changed, inserted, cut or repeated."""
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        end = min(len(mutant), high or len(mutant))
        if end <= low:
            break
        place = rng.randrange(low, end)
        match rng.randrange(7):
            case 0:
                mutant[place] = rng.randrange(256)
            case 1:
                mutant[place] ^= 1 << rng.randrange(8)
            case 2:
                mutant[place : place + rng.randrange(3)] = rng.choice(BYTES)
            case 3:
                del mutant[place : place + rng.choice([1, 2, 4, 8, 100])]
            case 4:
                start = rng.randrange(low, end)
                mutant[place:place] = mutant[start : start + rng.randrange(24)]
            case 5:
                number = rng.choice(WHOLE)
                width = rng.choice([2, 4, 8])
                mutant[place : place + width] = (number % 256**width).to_bytes(width, "little")
            case 6 if rng.random() < 0.3:
                del mutant[place:]
    return bytes(mutant)


def mutated_tree(rng: random.Random, tree):
    """A copy of nested dicts and lists with one or two nodes changed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 2])):
        places = list(_places(tree))
        if not places:
            return rng.choice([None, [], {}, 1, "a"])
        parent, key = rng.choice(places)
        others = [None, True, [], {}, [1] * 70, {"a": 1}, "same", "near"]
        value = rng.choice([*NUMBERS, *TEXTS, *others])
        if value == "same":
            other, name = rng.choice(places)
            value = copy.deepcopy(other[name])
        elif value == "near" and isinstance(parent[key], int):
            value = parent[key] + rng.choice([-1, 1, 4, -parent[key] * 2])
        if rng.random() < 0.15:
            del parent[key]
        elif rng.random() < 0.15 and isinstance(parent, dict):
            parent[rng.choice([*TEXTS, *parent])] = value
        else:
            parent[key] = value
    return tree


def _places(tree):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def read_everything(path: Path) -> None:
    model = qsdk.load(path)
    assert isinstance(model.metadata, dict)
    assert model.skipped is not None and model.files and model.inputs is not None
    for layer in model.layers:
        assert layer.stored and layer.nbytes >= 0
        weight = layer.weight
        assert weight.shape == layer.shape, (weight.shape, layer.shape)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "conv": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "fc": rng.standard_normal((5, 12)).astype(np.float16),
        "bias": np.arange(5, dtype=np.int64),
        "none": np.zeros((0, 3), np.float32),
    }


class Safetensors:
    def __init__(self, folder: Path):
        self.path = folder / "a.safetensors"
        source = folder / "net.npz"
        np.savez(source, **weights())
        self.corpus = []
        for words in ({"bits": 4}, {"bits": 3, "group_size": 7}, {"bits": 8, "symmetric": True}):
            qsdk.quantize_file(source, self.path, "rtn", **words)
            self.corpus.append(self.path.read_bytes())
        qsdk.write_container(self.path, weights(1).items(), dict)
        self.corpus.append(self.path.read_bytes())

    def mutant(self, rng: random.Random) -> Path:
        good = rng.choice(self.corpus)
        end = 8 + struct.unpack("<Q", good[:8])[0]
        text, data = good[8:end], good[end:]
        match rng.randrange(6):
            case 0:  # anywhere, the claimed length included
                content = mutated_bytes(rng, good)
                self.path.write_bytes(content)
                return self.path
            case 1:
                text = mutated_bytes(rng, text)
            case 2:
                text = json.dumps(mutated_tree(rng, json.loads(text))).encode()
            case 3 | 4:  # the document of qsdk in the header
                header = json.loads(text)
                inner = json.loads(header.get("__metadata__", {}).get("qsdk", "{}"))
                changed = json.dumps(mutated_tree(rng, inner))
                if rng.random() < 0.2:
                    changed = mutated_bytes(rng, changed.encode()).decode(errors="replace")
                header.setdefault("__metadata__", {})["qsdk"] = changed
                text = json.dumps(header).encode()
            case 5:
                data = mutated_bytes(rng, data)
        self.path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return self.path

    def use(self, path: Path) -> None:
        read_everything(path)
        container = qsdk.Container(path)
        for name in container:
            assert container[name].shape is not None


class Npz:
    """Archives, as models and as the data of a calibration."""

    def __init__(self, folder: Path):
        self.path = folder / "a.npz"
        self.corpus = []
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, **weights(), labels=np.arange(3), text=np.array(["a", "bc"]))
            self.corpus.append(file.getvalue())

    def mutant(self, rng: random.Random) -> Path:
        good = rng.choice(self.corpus)
        if rng.random() < 0.4:
            self.path.write_bytes(mutated_bytes(rng, good))
            return self.path
        with zipfile.ZipFile(io.BytesIO(good)) as archive:  # behind the checksums
            members = [(name, archive.read(name)) for name in archive.namelist()]
        which = rng.randrange(len(members))
        name, content = members[which]
        header = 10 + struct.unpack("<H", content[8:10])[0]
        if rng.random() < 0.7:
            content = mutated_bytes(rng, content, 0, header)
        else:
            content = self._with_header(rng, content[header:])
        if rng.random() < 0.1:
            name = rng.choice(TEXTS).replace("\0", "0") + rng.choice([".npy", ""])
        members[which] = (name, content)
        method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
        with zipfile.ZipFile(self.path, "w", method) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name), content, method)
        if rng.random() < 0.2:
            self.path.write_bytes(mutated_bytes(rng, self.path.read_bytes()))
        return self.path

    def _with_header(self, rng: random.Random, data: bytes) -> bytes:
        kind = rng.choice(KINDS)
        kind = kind if kind.startswith("[") else repr(kind)
        lengths = [0, 1, 3, -1, 2**31, 2**40, 2**62, 10**30]
        shape = tuple(rng.choice(lengths) for _ in range(rng.randrange(5)))
        order = rng.choice(["True", "False", "1"])
        text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}}}"
        text = rng.choice([text, text.replace("3", "3L"), "(" * 300 + text, "-" * 3000 + "1"])
        major = rng.choice([1, 2, 3, 4])
        size = struct.pack("<H" if major == 1 else "<I", len(text) + 1)
        return b"\x93NUMPY" + bytes([major, 0]) + size + text.encode() + b"\n" + data

    def use(self, path: Path) -> None:
        refused = None
        try:
            load_arrays(path)
        except qsdk.QsdkError as error:
            refused = error
        read_everything(path)
        if refused is not None:
            raise refused


class Toml:
    """Recipes, up to the plan of a run."""

    def __init__(self, folder: Path):
        self.path = folder / "recipe.toml"
        self.corpus = RECIPES
        self.model = qsdk.load({n: a for n, a in weights().items() if n in ("conv", "fc")})

    def mutant(self, rng: random.Random) -> Path:
        text = rng.choice(self.corpus).decode()
        if rng.random() < 0.4:
            self.path.write_bytes(mutated_bytes(rng, text.encode()))
            return self.path
        lines = text.splitlines()
        for _ in range(rng.choice([1, 1, 2, 3])):
            place = rng.randrange(len(lines))
            before, equals, _ = lines[place].partition("=")
            match rng.randrange(5):
                case 0 | 1 if equals:
                    lines[place] = f"{before}= {rng.choice(VALUES)}"
                case 2:
                    lines.insert(place, rng.choice(rng.choice(self.corpus).decode().splitlines()))
                case 3 if len(lines) > 1:
                    del lines[place]
                case _:
                    lines.insert(place, f"{rng.choice(WORDS)} = {rng.choice(VALUES)}")
        self.path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
        return self.path

    def use(self, path: Path) -> None:
        recipe = qsdk.Recipe.from_file(path)
        json.dumps(recipe.to_dict(), default=str)
        make_plan(self.model, recipe)


class Onnx:
    """Networks of each kind of layer, plain, quantized, and with their data outside."""

    def __init__(self, folder: Path):
        import onnx

        from plugins import onnx_zoo

        self.onnx = onnx
        self.path = folder / "net" / "a.onnx"
        self.path.parent.mkdir()
        (folder / "away").write_bytes(bytes(5000))
        self._hostile_neighbours(folder / "away")
        models = [onnx_zoo.model_of(case) for case in onnx_zoo.CASES] + [onnx_zoo.unseen()]
        source, output = folder / "f.onnx", folder / "q.onnx"
        self.corpus = [model.SerializeToString() for model in models]
        for i, model in enumerate([models[0], models[6], models[7], models[-1]]):
            onnx.save(model, source)
            for bits, words in ((4, {}), (3, {}), (8, {"group_size": 5, "symmetric": False})):
                qsdk.quantize_file(source, output, "rtn", bits=bits, **words)
                self.corpus.append(output.read_bytes())
            outside = onnx.ModelProto()
            outside.CopyFrom(model)
            self._move_outside(outside, 100 * i)
            self.corpus += [outside.SerializeToString()] * 4
        self.corpus = [data for data in self.corpus if len(data) < 20_000]

    def _hostile_neighbours(self, away: Path) -> None:
        folder = self.path.parent
        (folder / "data.bin").write_bytes(bytes(range(250)) * 200)
        (folder / "link.bin").symlink_to(away)
        (folder / "second.bin").hardlink_to(away)
        (folder / "away.bin").symlink_to("/dev/zero")
        os.mkfifo(folder / "pipe")

    def _move_outside(self, model, offset: int) -> None:
        for tensor in model.graph.initializer:
            raw, tensor.raw_data = tensor.raw_data, b""
            tensor.ClearField("raw_data")
            tensor.data_location = tensor.EXTERNAL
            entry = {"location": "data.bin", "offset": offset, "length": len(raw)}
            for key, value in entry.items():
                tensor.external_data.add(key=key, value=str(value))

    def mutant(self, rng: random.Random) -> Path:
        good = rng.choice(self.corpus)
        if rng.random() < 0.3:
            self.path.write_bytes(mutated_bytes(rng, good))
            return self.path
        proto = self.onnx.ModelProto.FromString(good)
        for _ in range(rng.choice([1, 1, 2, 3])):
            outside = [t for t in proto.graph.initializer if t.external_data]
            if outside and rng.random() < 0.6:
                self._mutate_reference(rng, rng.choice(outside))
            else:
                self._mutate_field(rng, proto)
        self.path.write_bytes(proto.SerializePartialToString())
        return self.path

    def _mutate_reference(self, rng: random.Random, tensor) -> None:
        pair = rng.choice(list(tensor.external_data))
        if pair.key == "location" or rng.random() < 0.1:
            pair.value = rng.choice(LOCATIONS)
        else:
            pair.value = rng.choice(PLACES)
        if rng.random() < 0.15:
            pair.key = rng.choice(["location", "offset", "length", "checksum", "basepath", "x"])

    def _mutate_field(self, rng: random.Random, message) -> None:
        """Walk down to a random field that is set, and change it."""
        while True:
            fields = message.ListFields()
            if not fields:
                return
            field, value = rng.choice(fields)
            many = not (isinstance(value, (int, float, str, bytes)) or hasattr(value, "ListFields"))
            if many and rng.random() < 0.2:
                self._mutate_list(rng, value)
                return
            item = rng.choice(list(value)) if many and len(value) else value
            if hasattr(item, "ListFields"):
                if rng.random() < 0.05:
                    message.ClearField(field.name)
                    return
                message = item
                continue
            changed = self._changed(rng, item)
            try:
                if many:
                    value[rng.randrange(len(value))] = changed
                else:
                    setattr(message, field.name, changed)
            except (ValueError, TypeError, IndexError):
                message.ClearField(field.name)  # out of the field's range
            return

    def _mutate_list(self, rng: random.Random, values) -> None:
        place = rng.randrange(len(values))
        if rng.random() < 0.5:
            del values[place]
        else:
            values.extend([values[place]] * rng.choice([1, 1, 2, 40]))

    def _changed(self, rng: random.Random, item):
        if isinstance(item, bool):
            return not item
        if isinstance(item, int):
            return rng.choice([*WHOLE, item + 1, item - 1, *range(26)])
        if isinstance(item, float):
            return rng.choice([0.0, -1.0, 1e38, float("nan"), float("inf")])
        if isinstance(item, bytes):
            return mutated_bytes(rng, item)
        return rng.choice([*TEXTS, *NAMES, item + "x"])

    def use(self, path: Path) -> None:
        read_everything(path)


class Planted:
    """What the fuzzer must see: input 1 is an error, 2 a hang, 3 takes a GB, 4 a crash."""

    def __init__(self, folder: Path):
        self.path = folder / "planted"
        self.corpus = [b"0"]
        self.number = -21  # the worker warms up with 20 of them

    def mutant(self, rng: random.Random) -> Path:
        self.number += 1
        self.path.write_bytes(str(self.number).encode())
        return self.path

    def use(self, path: Path) -> None:
        match path.read_bytes():
            case b"1":
                raise KeyError("planted")
            case b"2":
                while True:
                    pass
            case b"3":
                bytearray(2**30)
            case b"4":
                os.kill(os.getpid(), signal.SIGSEGV)


SUBJECTS = {"planted": Planted, "safetensors": Safetensors, "onnx": Onnx, "toml": Toml, "npz": Npz}
