//! The two lists of targets, on made-up products of known build: they name what was planted, and nothing in its absence.
//!
//! Each product is a project of its own, and its chance comes from a hash of its number, so that every run sees the same.
//! People differ in habits, queries in speed, the second release runs 18 % slower as a whole: none of this is a target.

use gemba_ingest::store::{Client, migrations};
use gemba_queries::{Catalog, ServerParams};
use gemba_tests::database::Engine;
use std::collections::BTreeMap;

/// Products of each build.
const PRODUCTS: u32 = 5;

/// 2026-03-08T00:00:00Z.
const NOW_MS: i64 = 1_772_928_000_000;

/// Twelve features, 150 people with an own chance of 0 to 20 % to give up and 1 to 6 attempts each; `more` is the chance
/// in per mille that the feature adds.
fn attempts(first: u32, more: &str) -> String {
    format!(
        "INSERT INTO events (project, name, kind, day, unit, time, attempt, outcome, duration_ns) \
         SELECT project, concat('feature', toString(f)), 'ended', '2026-03-05', person, '2026-03-05 10:00:00', \
             cityHash64(project, f, person, n), \
             if(cityHash64(project, f, person, n, 'luck') % 1000 \
                 < cityHash64(project, person, 'habit') % 200 + {more}, 'abandoned', 'completed'), 1000000000 \
         FROM (SELECT {first} + number AS project FROM numbers({PRODUCTS})) \
         ARRAY JOIN range(12) AS f \
         ARRAY JOIN range(1, 151) AS person \
         ARRAY JOIN range(1 + cityHash64(project, person, 'many') % 6) AS n"
    )
}

/// A funnel of six steps that loses 12 % at each.
fn funnel(first: u32) -> [String; 2] {
    let product = format!("FROM (SELECT {first} + number AS project FROM numbers({PRODUCTS}))");
    [
        format!(
            "INSERT INTO catalog (project, kind, name, funnel, position, service, release, time) \
             SELECT project, 'step', concat('buy.step', toString(place)), 'buy', place, 'shop', '1', \
                 '2026-02-01 00:00:00' \
             {product} ARRAY JOIN range(6) AS place"
        ),
        format!(
            "INSERT INTO events (project, name, kind, day, unit, time) \
             SELECT project, concat('buy.step', toString(place)), 'step', '2026-03-05', person, \
                 toDateTime64('2026-03-05 10:00:00', 3, 'UTC') + place \
             {product} ARRAY JOIN range(1, 401) AS person ARRAY JOIN range(6) AS place \
             WHERE NOT arrayExists(p -> cityHash64(project, person, p, 'lost') % 100 < 12, range(place))"
        ),
    ]
}

/// Thirty queries with medians of 0.05 to 2 ms, spread and tail, in two releases; `more` is added to the bucket, 64 to a
/// doubling.
fn durations(first: u32, more: &str) -> String {
    format!(
        "INSERT INTO query_histograms (project, fingerprint, day, time, start, stream, source, temporality, system, \
             count, sum_ns, max_ns, buckets, instance, service, release) \
         SELECT project, f, if(r = 1, '2026-03-04', '2026-03-06'), \
             if(r = 1, '2026-03-04 10:00:00', '2026-03-06 10:00:00'), '2026-03-04 00:00:00', f, 'sdk', 'delta', \
             'sqlite', count(), sum(exp2(bucket / 64) * 1e9), max(exp2(bucket / 64) * 1e9), \
             map(bucket, toUInt64(count())), 7, 'shop', toString(r) \
         FROM (SELECT project, f, r, \
             toInt32(-910 + cityHash64(project, f, 'typical') % 340 + if(r = 2, 15, 0) \
                 + 40 * sqrt(-2 * log((cityHash64(project, f, r, k, 'a') % 999983 + 1) / 1000000)) \
                     * cos(6.2832 * (cityHash64(project, f, r, k, 'b') % 1000) / 1000) \
                 + if(cityHash64(project, f, r, k, 'c') % 50 = 0, 150, 0) + {more}) AS bucket \
             FROM (SELECT {first} + number AS project FROM numbers({PRODUCTS})) \
             ARRAY JOIN range(1, 31) AS f ARRAY JOIN [1, 2] AS r \
             ARRAY JOIN range(50 + cityHash64(project, f, 'often') % 1000) AS k) \
         GROUP BY project, f, r, bucket"
    )
}

/// A hundred people who ran each query in one scope, `calls` times of 1 ms.
fn usage(first: u32, calls: &str) -> String {
    format!(
        "INSERT INTO query_usage (project, fingerprint, day, unit, time, calls, total_ns, service, release) \
         SELECT project, f, '2026-03-05', person, '2026-03-05 10:00:00', {calls} AS n, n * 1000000, 'shop', '1' \
         FROM (SELECT {first} + number AS project FROM numbers({PRODUCTS})) \
         ARRAY JOIN range(1, 31) AS f ARRAY JOIN range(1, 101) AS person"
    )
}

/// A column of the rows a query answers for a product, at most three.
async fn named(client: &Client, query: &str, project: u32, column: usize) -> Vec<String> {
    let catalog = Catalog::builtin().unwrap();
    let server = ServerParams { project, now_ms: NOW_MS, pending_records: 0, booked_records: 0 };
    let bound = catalog.get(query).unwrap().bind(&BTreeMap::new(), &server).unwrap();
    let mut request = client.raw().query_raw(&bound.sql);
    for (name, value) in &bound.params {
        request = request.param(name, value);
    }
    let bytes = request.fetch_bytes("TabSeparated").unwrap().collect().await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().take(3).map(|line| line.split('\t').nth(column).unwrap().to_owned()).collect()
}

/// Which of the products a query names `expected` first for; an empty text: names nothing for.
async fn hits(client: &Client, query: &str, first: u32, column: usize, expected: &str) -> Vec<Vec<String>> {
    let mut misses = Vec::new();
    for project in first..first + PRODUCTS {
        let found = named(client, query, project, column).await;
        if found.first().map_or("", String::as_str) != expected {
            misses.push(found);
        }
    }
    misses
}

const NONE: Vec<Vec<String>> = Vec::new();

#[tokio::test(flavor = "multi_thread")]
async fn people_who_give_up_at_one_feature_make_it_the_first_target_and_nothing_else_does() {
    let engine = Engine::start();
    let client = engine.database("usability").await;
    migrations::up(&client).await.unwrap();
    for (first, more) in [(100, "0"), (200, "if(f = 5, 250, 0)")] {
        client.execute(&attempts(first, more)).await.unwrap();
        for statement in funnel(first) {
            client.execute(&statement).await.unwrap();
        }
    }
    assert_eq!(hits(&client, "usability_targets", 100, 1, "").await, NONE, "a product as it should be");
    assert_eq!(hits(&client, "usability_targets", 200, 1, "feature5").await, NONE);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_a_repeated_and_a_regressed_query_are_named_with_the_reason_and_a_usual_one_is_not() {
    let engine = Engine::start();
    let client = engine.database("optimization").await;
    migrations::up(&client).await.unwrap();
    let usual = "1 + cityHash64(project, f, person, 'calls') % 3";
    // At least 85 ms: the slowest of the others takes 2.
    let hot = "if(f = 5, 212 + greatest(0, 470 - toInt32(cityHash64(project, f, 'typical') % 340)), 0)";
    // 220 / 64 doublings: 10.8 times slower.
    let regressed = "if(f = 5 AND r = 2, 220, 0)";
    for (first, more) in [(100, "0"), (200, hot), (300, regressed), (400, "0")] {
        client.execute(&durations(first, more)).await.unwrap();
    }
    client.execute(&usage(100, usual)).await.unwrap();
    client.execute(&usage(400, &format!("if(f = 5, 12, {usual})"))).await.unwrap();
    for (first, reason) in [(100, ""), (200, "hot"), (300, "regression"), (400, "n_plus_one")] {
        let fingerprint = if reason.is_empty() { "" } else { "0000000000000005" };
        assert_eq!(hits(&client, "optimization_targets", first, 0, fingerprint).await, NONE, "{reason}");
        assert_eq!(hits(&client, "optimization_targets", first, 4, reason).await, NONE);
    }
    engine.stop().await;
}
