"""The largest scan group that a configuration may have fits a record, with its source times and a status each."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.opcua.settings import OpcuaTag
from edge.config.devices import SCAN_BYTES
from edge.config.validate import settings_from
from edge.model import Layout, SampleBlock
from edge.recorder.commit_window import encoded_bytes

RECORD_BYTES = 65_535 - 1_000  # Without the envelope and the times of the record.


@pytest.mark.parametrize("type_name", ["bool", "uint8", "float32", "float64", "datetime"])
def test_the_largest_group_of_an_opc_ua_server_fits(type_name: str) -> None:
    tag = settings_from(OpcuaTag, {"name": "t", "address": "ns=0;i=2258", "type": type_name})
    count = SCAN_BYTES // tag.value_bytes
    layout = Layout((tag.data_type,) * count)
    times = (np.arange(count, dtype=np.int64),)

    block = SampleBlock(0, 1, 2, layout.empty(), None, ((0, count, 1),), times)

    assert encoded_bytes(block) <= RECORD_BYTES
