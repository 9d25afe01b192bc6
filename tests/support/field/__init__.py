"""Devices as engineers meet them: slow, touchy, half-standard or limited, each as a test peer.

- `case` says what a case is.
- `modbus_*`, `opcua_*`, `ethernetip_*` are the cases, each module with a tuple `CASES`.
- `tables` names them all; `tests/peers/field/test_field_cases.py` reads every one with `tidegate read` and
  `tidegate run`, and `page` writes docs/reference/field-cases.md from them.
"""
