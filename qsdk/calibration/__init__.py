"""Calibration: what the tensors of a model look like on data, in one pass and little memory."""

from qsdk.calibration.coverage import Coverage
from qsdk.calibration.feeds import Data, as_batches, batches
from qsdk.calibration.moments import InputMoments, Moments
from qsdk.calibration.running import calibrate
from qsdk.calibration.statistics import Calibration
from qsdk.calibration.unseen import held_to_norms, notes_on_noise
from qsdk.calibration.watch import Watch

__all__ = [
    "Calibration",
    "Coverage",
    "Data",
    "InputMoments",
    "Moments",
    "Watch",
    "as_batches",
    "batches",
    "calibrate",
    "held_to_norms",
    "notes_on_noise",
]
