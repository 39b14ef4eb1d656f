"""A scan to draw."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.images.volume import Volume
from tests.figures.made import SPACING


@pytest.fixture
def scan() -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 255, (80, 42, 22)).astype(np.uint8), SPACING)
