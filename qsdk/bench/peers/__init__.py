"""The libraries that qsdk is measured beside; each is optional but numpy."""

from __future__ import annotations

from qsdk.bench.peers.base import FLOAT, READ, ROUNDING, SAME, Candidate, Peer
from qsdk.bench.peers.mkl import Mkl
from qsdk.bench.peers.numpy import Numpy
from qsdk.bench.peers.onnxruntime import Onnxruntime
from qsdk.bench.peers.openvino import Openvino
from qsdk.bench.peers.torch import Torch

PEERS: tuple[type[Peer], ...] = (Numpy, Mkl, Onnxruntime, Torch, Openvino)


def installed(threads: int, peers: tuple[type[Peer], ...] = PEERS) -> tuple[
    dict[Peer, str], dict[str, str]
]:  # fmt: skip
    """Peers with their versions, and the names of those left out with the reason."""
    found: dict[Peer, str] = {}
    left_out: dict[str, str] = {}
    for kind in peers:
        peer = kind(threads)
        try:
            found[peer] = peer.version()
        except Exception as error:  # a broken peer is as good as none
            left_out[kind.name] = " ".join(str(error).split()) or type(error).__name__
    return found, left_out


__all__ = [
    "FLOAT",
    "PEERS",
    "READ",
    "ROUNDING",
    "SAME",
    "Candidate",
    "Numpy",
    "Onnxruntime",
    "Peer",
    "installed",
]
