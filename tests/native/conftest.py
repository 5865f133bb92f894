"""Every test of a module that asks for it runs with each set of functions in C."""

from __future__ import annotations

import pytest
from array_oracles import SETS, using


@pytest.fixture(scope="module", params=SETS)
def instruction_set(request):
    with using(request.param):
        yield request.param
