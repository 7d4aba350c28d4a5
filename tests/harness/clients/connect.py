"""What clickhouse-connect's users do, against the engine: port, password and database are the arguments."""

import datetime
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.external import ExternalData

PORT, PASSWORD, DATABASE = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def fails(code, action):
    try:
        action()
    except ClickHouseError as error:
        assert f"Code: {code}." in str(error) or f"code: {code}" in str(error), error
        return
    raise AssertionError(f"no error {code}")


def check(compress):
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=PORT, username="default", password=PASSWORD, database=DATABASE, compress=compress
    )
    assert client.server_version.startswith("26.7."), client.server_version
    when = datetime.datetime(2024, 1, 2, 3, 4, 5)
    rows = client.query(
        "SELECT {a:String}, {b:UInt64}, {c:DateTime}, {d:Array(String)}",
        parameters={"a": "it's\n\\t", "b": 2**63, "c": when, "d": ["x'", "\\"]},
    ).result_rows
    assert rows == [("it's\n\\t", 2**63, when, ["x'", "\\"])], rows

    client.command(
        "CREATE OR REPLACE TABLE t (a UInt64, b Nullable(String), c LowCardinality(String), d DateTime64(3), "
        "e Array(Int32), f Map(String, Float64)) ENGINE = MergeTree ORDER BY a"
    )
    data = [(1, None, "x", when, [1, -2], {"k": 1.5}), (2, "b", "y", when, [], {})]
    summary = client.insert("t", data, column_names=list("abcdef"))
    assert summary.written_rows == 2, summary.summary
    assert client.query("SELECT * FROM t ORDER BY a").result_rows == data
    client.raw_insert("t", ["a", "c"], b"7,q\n8,r\n", fmt="CSV")
    assert client.command("SELECT count() FROM t") == 4
    assert client.raw_query("SELECT a FROM t WHERE a > 6 ORDER BY a", fmt="TSV") == b"7\n8\n"

    table = ExternalData(file_name="sent", data=b"1,a\n2,b\n", fmt="CSV", structure=["x UInt8", "y String"])
    assert client.query("SELECT x, y FROM sent ORDER BY x", external_data=table).result_rows == [(1, "a"), (2, "b")]

    fails(60, lambda: client.query("SELECT * FROM missing"))
    fails(62, lambda: client.query("SELEC 1"))
    fails(117, lambda: client.raw_insert("t", ["a"], b"x\n", fmt="CSV"))

    # A session keeps what it is told, a request's own settings end with it.
    client.command("SET max_threads = 1")
    sql = "SELECT getSetting('max_threads')"
    assert client.query(sql, settings={"max_threads": 3}).result_rows == [(3,)]
    assert client.query(sql).result_rows == [(1,)]

    def middle():
        with client.query_row_block_stream("SELECT number, throwIf(number = 3000000) FROM numbers(5000000)") as blocks:
            for _ in blocks:
                pass

    fails(395, middle)
    client.close()


for compress in (False, "lz4", "zstd", "gzip"):
    check(compress)

client = clickhouse_connect.get_client(
    host="127.0.0.1", port=PORT, username="default", password=PASSWORD, database=DATABASE
)
count = total = 0
with client.query_column_block_stream("SELECT number FROM numbers(5000000)") as blocks:
    for (column,) in blocks:
        count += len(column)
        total += sum(column)
assert (count, total) == (5_000_000, 5_000_000 * 4_999_999 // 2), (count, total)
fails(516, lambda: clickhouse_connect.get_client(host="127.0.0.1", port=PORT, username="default", password="no"))
print("every check passed")
