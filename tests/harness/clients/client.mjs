// What the users of @clickhouse/client do, against the engine: port, password and database are the arguments.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { createClient } from "@clickhouse/client";

const [port, password, database] = process.argv.slice(2);
const url = `http://127.0.0.1:${port}`;

for (const compression of [{}, { request: true, response: true }]) {
  const client = createClient({ url, username: "default", password, database, compression });
  assert.equal((await client.ping()).success, true);

  const answer = await client.query({
    query: "SELECT {a:String} AS a, {b:Int32} AS b, {c:Array(UInt8)} AS c",
    query_params: { a: "it's\n\\t", b: -5, c: [1, 2] },
    format: "JSONEachRow",
    query_id: "node-knows-it-as-this",
  });
  assert.equal(answer.query_id, "node-knows-it-as-this");
  assert.deepEqual(await answer.json(), [{ a: "it's\n\\t", b: -5, c: [1, 2] }]);

  await client.command({ query: "CREATE OR REPLACE TABLE n (a UInt32, b String) ENGINE = MergeTree ORDER BY a" });
  await client.insert({ table: "n", values: [{ a: 1, b: "x" }, { a: 2, b: "ü" }], format: "JSONEachRow" });
  const lines = Readable.from((function* () {
    for (let a = 3; a <= 100_002; a++) yield [a, "streamed"];
  })());
  const inserted = await client.insert({ table: "n", values: lines, format: "JSONCompactEachRow" });
  assert.equal(inserted.summary?.written_rows, "100000");
  const whole = await (await client.query({ query: "SELECT count() AS n, max(a) AS m FROM n", format: "JSON" })).json();
  assert.deepEqual(whole.data, [{ n: 100002, m: 100002 }]);

  for (const [query, code, type] of [
    ["SELECT * FROM missing", "60", "UNKNOWN_TABLE"],
    ["SELECT no_such_function(1)", "46", "UNKNOWN_FUNCTION"],
    ["SELECT throwIf(1, 'on purpose')", "395", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"],
  ]) {
    await assert.rejects(client.query({ query }), (error) => {
      assert.equal(error.code, code);
      assert.equal(error.type, type);
      return true;
    });
  }

  let count = 0;
  const stream = (await client.query({ query: "SELECT number FROM numbers(5000000)", format: "CSV" })).stream();
  for await (const rows of stream) count += rows.length;
  assert.equal(count, 5_000_000);
  await client.close();
}

const stranger = createClient({ url, username: "default", password: "no" });
await assert.rejects(stranger.query({ query: "SELECT 1" }), (error) => error.code === "516");
await stranger.close();
console.log("every check passed");
