"""Engineering units: from the UNECE codes of OPC UA (OPC 10000-8 5.6.4.3) to UCUM, for what plants measure."""

from __future__ import annotations

NAMESPACE = "http://www.opcfoundation.org/UA/units/un/cefact"

_UCUM = {
    "CEL": "Cel", "FAH": "[degF]", "KEL": "K",
    "BAR": "bar", "MBR": "mbar", "PAL": "Pa", "A97": "hPa", "KPA": "kPa", "MPA": "MPa", "PS": "[psi]",
    "P1": "%", "59": "[ppm]", "61": "[ppb]", "Q30": "[pH]", "C62": "1",
    "MTR": "m", "DMT": "dm", "CMT": "cm", "MMT": "mm", "4H": "um", "KMT": "km", "INH": "[in_i]", "FOT": "[ft_i]",
    "MTK": "m2", "CMK": "cm2", "MTQ": "m3", "LTR": "L", "HLT": "hL", "DLT": "dL", "CLT": "cL", "MLT": "mL",
    "KGM": "kg", "GRM": "g", "MGM": "mg", "MC": "ug", "TNE": "t", "LBR": "[lb_av]",
    "SEC": "s", "C26": "ms", "B98": "us", "MIN": "min", "HUR": "h", "DAY": "d", "WEE": "wk",
    "RPM": "/min", "RPS": "/s", "HTZ": "Hz", "KHZ": "kHz", "MHZ": "MHz",
    "AMP": "A", "4K": "mA", "B84": "uA", "VLT": "V", "2Z": "mV", "KVT": "kV", "OHM": "Ohm", "B49": "kOhm",
    "WTT": "W", "KWT": "kW", "MAW": "MW", "D46": "V.A", "KVA": "kV.A", "WHR": "W.h", "KWH": "kW.h", "MWH": "MW.h",
    "JOU": "J", "KJO": "kJ", "3B": "MJ", "NEW": "N", "B47": "kN", "NU": "N.m", "FAR": "F", "4O": "uF",
    "MTS": "m/s", "2M": "cm/s", "C16": "mm/s", "KMH": "km/h", "2X": "m/min", "MSK": "m/s2",
    "MQH": "m3/h", "MQS": "m3/s", "E32": "L/h", "L2": "L/min", "G51": "L/s", "41": "mL/min",
    "KGS": "kg/s", "F31": "kg/min", "E93": "kg/h", "GL": "g/L", "M1": "mg/L", "KMQ": "kg/m3", "23": "g/cm3",
    "C34": "mol", "C36": "mol/dm3", "C35": "mol/m3", "C24": "mPa.s", "C65": "Pa.s", "4C": "cSt",
    "D10": "S/m", "H61": "mS/cm", "G42": "uS/cm", "LUX": "lx", "CDL": "cd", "DD": "deg", "C81": "rad", "2N": "dB",
    "D33": "T", "BQL": "Bq",
}  # fmt: skip


def ucum(namespace: str, unit_id: int, display_name: str) -> str:
    """A unit as UCUM where its code is a common one, else as the server shows it."""
    if namespace == NAMESPACE and (code := _code(unit_id)) in _UCUM:
        return _UCUM[code]
    return "".join(letter for letter in display_name[:100] if letter.isprintable())


def _code(unit_id: int) -> str:
    """The letters and digits that are packed into a UnitId."""
    if not 0 < unit_id < 1 << 24:
        return ""
    return unit_id.to_bytes(3).lstrip(b"\0").decode("latin-1")
