"""What all tests share: reproducible random numbers, and bounded hypothesis runs."""

import zlib

import lossrs
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from lossrs import _lossrs

settings.register_profile(
    "bounded", derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("bounded"), derandomize=False, max_examples=3000)
settings.load_profile("bounded")


@pytest.fixture
def rng(request):
    """Return a generator that depends on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request):
    """Run a test with each instruction set; what the machine does not have shows as a skipped test."""
    before = lossrs.instruction_set()
    try:
        _lossrs.use_instruction_set(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _lossrs.use_instruction_set(before)
