"""How long bytes take on the way to a device, and how long a line is silent between frames."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.modbus.settings import ModbusDevice

_CHARACTERS_OF_SILENCE = 3.5  # Between frames (MODBUS over Serial Line V1.02, 2.5.1.1),
_SILENCE_S_MIN = 0.00175  # and not less at more than 19200 baud, nor behind a converter.
_CHARACTER_BITS = {"rtu": 11, "ascii": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How time passes on a line."""

    character_s: float = 0.0
    silence_s: float = _SILENCE_S_MIN
    """Between two frames."""
    has_echo: bool = False
    """Whether what we send comes back to us."""


def pace_of(device: ModbusDevice) -> Pace:
    """How time passes on the way to a device."""
    if device.serial is None:
        return Pace()
    character_s = _CHARACTER_BITS[device.way] / device.serial.baud
    silence_s = max(_CHARACTERS_OF_SILENCE * character_s, _SILENCE_S_MIN)
    return Pace(character_s=character_s, silence_s=silence_s, has_echo=device.serial.echo)
