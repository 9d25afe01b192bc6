"""Subjects of the conformance suite: our own drivers, and those of installed packages."""

from edge.testing.conformance import Subject, installed, load
from tests.support.subjects.ethernetip import EtherNetIpSubject
from tests.support.subjects.modbus import ModbusSubject
from tests.support.subjects.opcua import OpcuaSubject
from tests.support.subjects.simulator import SimulatorSubject

_OURS: tuple[Subject, ...] = (EtherNetIpSubject(), ModbusSubject(), OpcuaSubject(), SimulatorSubject())

SUBJECTS: dict[str, Subject] = {subject.driver: subject for subject in _OURS} | {
    name: load(name) for name in installed()
}
