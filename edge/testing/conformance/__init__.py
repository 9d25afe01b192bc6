"""The conformance suite: rules for every driver, as tests, and the interface to a driver under test.

from edge.testing.conformance import driver_tests, keep

test_my_driver_keeps = driver_tests(MySubject())
"""

from edge.testing.conformance import cancelling, losing, offering, planning, reading
from edge.testing.conformance.pytests import driver_tests, keep
from edge.testing.conformance.rule import RULES, NotOffered, Rule
from edge.testing.conformance.subject import Peer, Subject, installed, load

__all__ = ["RULES", "NotOffered", "Peer", "Rule", "Subject", "driver_tests", "installed", "keep", "load"]
__all__ += ["cancelling", "losing", "offering", "planning", "reading"]
