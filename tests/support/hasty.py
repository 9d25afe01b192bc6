"""Programs as `python -c` runs them: gateway and relay that wait a thousandth of the time before they try again."""

HASTY = """
from edge.backoff import Backoff
Backoff.__init__.__defaults__ = 10**6, 60 * 10**6
from edge.cli import main
main()
"""
HASTY_RELAY = """
import edge.relay.connection
edge.relay.connection.RETRY_LIMIT_NS = 60 * 10**6
from edge.cli import main
main()
"""
