"""Mutate the records of a chain many times, and print the mutations that the verifier did not detect.

python -m bench.mutations --count 1000000 --seed 7
"""

from __future__ import annotations

import argparse
import time

from bench.results import Row, store
from tests.support.mutations import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    begin = time.perf_counter()
    result = run(asked.count, asked.seed)
    print(f"{sum(result.tried.values())} mutations in {time.perf_counter() - begin:.0f} s, seed {asked.seed}")
    print("  " + ", ".join(f"{count} {name}" for name, count in sorted(result.tried.items())))
    print("  " + ", ".join(f"{count} {name}" for name, count in sorted(result.verdicts.items())))
    print(f"  undetected {len(result.undetected)}, false alarms {len(result.false_alarms)}")
    for line in [*result.undetected[:5], *result.false_alarms[:5]]:
        print("  ", line)
    command = f"python -m bench.mutations --count {asked.count}"
    store([
        Row(figure="I1 mutations", goal="0 undetected, 0 false alarms", command=command,
            measured=f"{len(result.undetected)} undetected and {len(result.false_alarms)} false alarms "
            f"in {sum(result.tried.values()):,}")
    ])  # fmt: skip
    raise SystemExit(1 if result.undetected or result.false_alarms else 0)


if __name__ == "__main__":
    main()
