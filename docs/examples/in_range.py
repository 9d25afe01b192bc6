"""Was a tag in range, and what is missing? Asked of files of `tidegate export`, with pandas and nothing of Tidegate.

    pip install duckdb pandas
    tidegate export archive --trust line-4.pub.pem --from 2026-01-31T06:00Z --to 2026-01-31T14:00Z -o shift.parquet
    python in_range.py shift.parquet mixer temperature 36.0 38.0

DuckDB reads the Parquet file; `pandas.read_parquet` does too, with pyarrow.
"""

import json
import sys

import duckdb
import pandas

file, device, tag = sys.argv[1:4]
low, high = map(float, sys.argv[4:6])

values = duckdb.execute(
    "SELECT time, value, quality, unit, epoch, seq FROM read_parquet($1) "
    "WHERE device = $2 AND tag = $3 AND verdict = 'AUTHENTIC' ORDER BY time",
    [file, device, tag],
).df()
gaps = pandas.read_csv(f"{file}.gaps.csv", dtype={"device": str, "epoch": str, "reason": str})
# A gap of another device says nothing of this one; what names no device may be of any.
gaps = gaps[gaps.device.isna() | (gaps.device == device)]

good = values[values.quality == "good"]
outside = good[~good.value.between(low, high)]
not_good = values[values.quality != "good"]
answer = {
    "values": len(values),
    "lowest": None if good.empty else good.value.min(),
    "highest": None if good.empty else good.value.max(),
    "outside": [
        {"time": row.time.isoformat(), "value": row.value, "record": f"{row.epoch}/{row.seq}"}
        for row in outside.itertuples()
    ],
    "not_good": len(not_good),
    "missing": gaps[["kind", "from", "to", "records", "reason"]]
    .astype(object)
    .where(gaps.notna(), None)
    .to_dict("records"),
}
# Values that are missing were neither in range nor outside of it: so the answer has three words.
if not outside.empty:
    answer["answer"] = "no"
elif good.empty or not not_good.empty or answer["missing"]:
    answer["answer"] = "as far as it is known"
else:
    answer["answer"] = "yes"
json.dump(answer, sys.stdout, indent=2)
