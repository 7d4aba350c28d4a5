//! Records that were set aside: an operator sees what they are and takes them in again, once, whatever is repeated or
//! killed, and within one project.

use crate::books::books;
use gemba_tests::binary;
use gemba_tests::client::{bare, post, send};
use gemba_tests::export::{event, logs, now_ns};
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

const PROTOBUF: &str = "application/x-protobuf";

/// The list of a project, or what came of a retry.
async fn ask(server: &Server, project: &str, body: Option<Value>) -> Value {
    let url = server.url(&format!("/api/v1/projects/{project}/set-aside"));
    let answer = match body {
        None => send(bare("GET", &url, Some(&server.keys.admin))).await,
        Some(body) => {
            send(post(&format!("{url}/retry"), &server.keys.admin, "application/json", body.to_string())).await
        }
    };
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Events that a constraint on the table refuses while it is there.
async fn refused(server: &Server, ids: &[&str]) -> u64 {
    let constraint = "ALTER TABLE events ADD CONSTRAINT sane CHECK strings['id'] NOT LIKE 'bad%'";
    server.running.app().store.execute(constraint).await.unwrap();
    let records: Vec<_> = ids.iter().map(|id| event(now_ns(), "cart", &[("id", id), ("user.id", "ann")])).collect();
    let sent = post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, logs("shop", records));
    assert_eq!(send(sent).await.status, 200);
    server.flush().await;
    ids.iter().filter(|id| id.starts_with("bad")).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clickhouse_refused_is_listed_and_taken_in_again_once_and_the_books_balance() {
    let server = Server::start().await;
    // Two are equal, save that nothing tells them apart: they are one item of two records.
    let at = now_ns();
    let twin = || event(at, "cart", &[("id", "bad-twin"), ("user.id", "ann")]);
    let set_aside = refused(&server, &["good-1", "bad-1", "good-2", "bad-2"]).await;
    let sent = post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, logs("shop", vec![twin(), twin()]));
    assert_eq!(send(sent).await.status, 200);
    server.flush().await;

    let list = ask(&server, "default", None).await;
    assert_eq!(list["records"], set_aside + 2, "{list:#}");
    assert_eq!(list["by_reason"], json!([{"reason": "refused_by_store", "records": 4}]));
    let items = list["items"].as_array().unwrap();
    let mut records: Vec<_> = items.iter().map(|item| item["records"].as_u64().unwrap()).collect();
    records.sort_unstable();
    assert_eq!(records, [1, 1, 2]);
    for item in items {
        assert_eq!((&item["signal"], &item["can_be_retried"]), (&json!("logs"), &json!(true)), "{item:#}");
        assert!(item["detail"].as_str().unwrap().contains("sane"), "{item:#}");
        assert!(item["body"].as_str().unwrap().contains("bad-") && item["received"].as_str().unwrap().ends_with('Z'));
        assert_eq!(item["bytes"], item["body"].as_str().unwrap().len());
    }
    let before = books(&server).await;
    assert_eq!((before["received"], before["stored"], before["set_aside"], before["unexplained"]), (6, 2, 4, 0));

    // Nothing was mended: they are refused once more, and nothing is lost or counted twice.
    let again = ask(&server, "default", Some(json!({}))).await;
    assert_eq!(
        (&again["retried"], &again["refused_again"], &again["left"]),
        (&json!(4), &json!(4), &json!(0)),
        "{again:#}"
    );
    assert_eq!(books(&server).await, before);
    assert_eq!(ask(&server, "default", None).await["records"], 4);

    server.running.app().store.execute("ALTER TABLE events DROP CONSTRAINT sane").await.unwrap();
    let one = ask(&server, "default", None).await["items"][0]["id"].as_str().unwrap().to_owned();
    let first = ask(&server, "default", Some(json!({"ids": [one]}))).await;
    let rest = ask(&server, "default", Some(json!({"reason": "refused_by_store"}))).await;
    assert_eq!(first["retried"].as_u64().unwrap() + rest["retried"].as_u64().unwrap(), 4, "{first:#} {rest:#}");
    let nothing = ask(&server, "default", Some(json!({}))).await;
    assert_eq!((&nothing["retried"], &nothing["repeated"]), (&json!(0), &json!(0)), "{nothing:#}");
    let after = books(&server).await;
    assert_eq!((after["received"], after["stored"], after["unexplained"]), (6, 6, 0), "{after:?}");
    assert!(!after.contains_key("set_aside"), "{after:?}");
    assert_eq!(server.number("SELECT count() FROM set_aside").await, 0);
    // With all that came with them: the resource's service, the person, the attributes.
    let whole = "SELECT count() FROM events WHERE project = 1 AND service = 'shop' AND name = 'cart' AND unit != 0 \
                 AND strings['id'] LIKE 'bad-%'";
    assert_eq!(server.number(whole).await, 4);
    let metrics = send(bare("GET", &server.url("/metrics"), None)).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("gemba_records_retried_total 8\n"), "{metrics}");
    assert!(metrics.contains("gemba_records_stored_total 6\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_was_cut_off_before_it_removed_what_it_took_in_doubles_nothing_when_it_is_sent_again() {
    let server = Server::start().await;
    refused(&server, &["good-1", "bad-1", "bad-2"]).await;
    let store = server.running.app().store.clone();
    store.execute("ALTER TABLE events DROP CONSTRAINT sane").await.unwrap();
    // Nothing can be removed from a view, so the retry breaks off after the records are stored and before their rows are gone.
    store.execute("RENAME TABLE set_aside TO set_aside_away").await.unwrap();
    store.execute("CREATE VIEW set_aside AS SELECT * FROM set_aside_away").await.unwrap();
    let url = server.url("/api/v1/projects/default/set-aside/retry");
    let broken = send(post(&url, &server.keys.admin, "application/json", "{}")).await;
    assert!(broken.status.is_server_error(), "{broken:?}");
    store.execute("DROP VIEW set_aside").await.unwrap();
    store.execute("RENAME TABLE set_aside_away TO set_aside").await.unwrap();
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 3);
    assert_eq!(server.number("SELECT count() FROM set_aside").await, 2);
    // Over a restart, so that only what is on the disk can tell.
    let server = server.restart().await;
    let again = ask(&server, "default", Some(json!({}))).await;
    assert_eq!((&again["retried"], &again["repeated"]), (&json!(0), &json!(2)), "{again:#}");
    assert_eq!(server.number("SELECT count() FROM set_aside").await, 0);
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 3);
    let terms = books(&server).await;
    assert_eq!((terms["stored"], terms["unexplained"]), (3, 0), "{terms:?}");
    assert!(!terms.contains_key("set_aside"), "{terms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_retried_and_comes_back_with_an_older_backup_is_taken_in_anew() {
    let server = Server::start().await;
    refused(&server, &["bad-1", "bad-2"]).await;
    let store = server.running.app().store.clone();
    store.execute("ALTER TABLE events DROP CONSTRAINT sane").await.unwrap();
    store.execute("CREATE TABLE backup AS set_aside ENGINE = Memory").await.unwrap();
    store.execute("INSERT INTO backup SELECT * FROM set_aside").await.unwrap();
    assert_eq!(ask(&server, "default", Some(json!({}))).await["retried"], 2);
    // What a restore brings while the log's folder stays: the rows set aside are there and the events are not.
    for statement in ["TRUNCATE TABLE events", "INSERT INTO set_aside SELECT * FROM backup"] {
        store.execute(statement).await.unwrap();
    }
    let server = server.restart().await;
    let again = ask(&server, "default", Some(json!({}))).await;
    assert_eq!((&again["retried"], &again["repeated"]), (&json!(2), &json!(0)), "{again:#}");
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 2);
    assert_eq!(server.number("SELECT count() FROM set_aside").await, 0);
}

/// An answer about a range of time, in ms since the Unix epoch.
async fn told(server: &Server, question: &str, (from_ms, to_ms): (i64, i64)) -> Value {
    let [from, to] = [from_ms, to_ms].map(|ms| jiff::Timestamp::from_millisecond(ms).unwrap().to_string());
    let url = server.url(&format!("/api/v1/queries/{question}?from={from}&to={to}"));
    let answer = send(bare("GET", &url, Some(&server.keys.read))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_taken_in_again_hide_no_loss_of_the_time_in_which_they_were() {
    let server = Server::start().await;
    let now_ms = || i64::try_from(now_ns() / 1_000_000).unwrap();
    let begin = now_ms() - 1;
    send_logs(&server, invalid_utf8_at([now_ns(); 3])).await;
    server.flush().await;
    // A cut stands in the books at the millisecond it was received in.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let middle = now_ms();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(ask(&server, "default", Some(json!({}))).await["retried"], 3);
    send_logs(&server, invalid_utf8_at([now_ns(); 2])).await;
    server.flush().await;
    let end = now_ms() + 1;
    for (range, lost, received) in [((begin, middle), 0, 0), ((middle, end), 2, 5), ((begin, end), 2, 5)] {
        let loss = &told(&server, "feature_usage", range).await["known_loss"];
        assert_eq!(loss["records"], lost, "{range:?}: {loss}");
        assert_eq!(loss["share"], json!(if lost == 0 { 0.0 } else { 0.4 }), "{range:?}: {loss}");
        let losses = told(&server, "losses", range).await;
        let of = |term: &str| {
            let rows = losses["rows"].as_array().unwrap().iter().filter(|row| row[0] == term);
            rows.map(|row| row[3].as_i64().unwrap()).sum::<i64>()
        };
        let terms = ["received", "set_aside", "stored", "unexplained"].map(of);
        assert_eq!(terms, [received, lost, received - lost, 0], "{range:?}: {losses:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_puts_fewer_records_into_a_cut_than_may_be_refused_in_one() {
    let server = Server::start().await;
    let at = now_ns();
    // Two items of equal records; either alone would do.
    for number in 0..2 {
        send_logs(&server, invalid_utf8_at([at + number; 600])).await;
    }
    server.flush().await;
    assert_eq!(ask(&server, "default", None).await["items"].as_array().unwrap().len(), 2);
    let done = ask(&server, "default", Some(json!({}))).await;
    assert_eq!((&done["retried"], &done["left"]), (&json!(1_200), &json!(0)), "{done:#}");
    let most = "SELECT max(together) FROM (SELECT sum(records) AS together FROM retries FINAL GROUP BY cut)";
    let most = server.number(most).await;
    assert!((1..1_000).contains(&most), "{most} in one cut");
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 1_200);
}

/// A record whose attribute is not valid UTF-8, as protobuf; a client library does not let one make it.
fn invalid_utf8() -> Vec<u8> {
    invalid_utf8_at([now_ns()])
}

/// One for each of these times.
pub(crate) fn invalid_utf8_at(times: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let record = |at| {
        let value = AnyValue { value: Some(any_value::Value::StringValue("caf?".into())) };
        let attribute = KeyValue { key: "place".into(), value: Some(value), ..KeyValue::default() };
        let record = LogRecord { attributes: vec![attribute], ..event(at, "cart", &[("user.id", "ann")]) };
        LogRecord { event_name: "cart".into(), ..record }
    };
    let mut body = logs("shop", times.into_iter().map(record).collect());
    for at in 0..body.len() - 3 {
        if body[at..].starts_with(b"caf?") {
            body[at + 3] = 0xe9;
        }
    }
    body
}

async fn send_logs(server: &Server, body: Vec<u8>) {
    let answer = send(post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_retry_go_on_where_their_last_part_ended_even_when_what_stood_there_is_gone() {
    let server = Server::start().await;
    let began = now_ns();
    send_logs(&server, invalid_utf8_at((0..1_005).map(|number| began + number))).await;
    server.flush().await;
    let list = async |query: &str| -> Value {
        let url = server.url(&format!("/api/v1/projects/default/set-aside?limit=1000{query}"));
        let answer = send(bare("GET", &url, Some(&server.keys.admin))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let ids = |list: &Value| -> BTreeSet<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = list("").await;
    assert_eq!(ids(&first).len(), 1_000);
    let last = first["items"][999]["id"].as_str().unwrap();
    let gone = format!(
        "ALTER TABLE set_aside DELETE WHERE lower(hex(sipHash128(batch, signal, reason, detail, body, context))) = \
         '{last}' SETTINGS mutations_sync = 2"
    );
    server.running.app().store.execute(&gone).await.unwrap();
    assert_eq!(server.number("SELECT count() FROM set_aside").await, 1_004);
    let rest = list(&format!("&after={}", first["after"].as_str().unwrap())).await;
    assert_eq!((ids(&rest).len(), &rest["after"]), (5, &Value::Null), "{rest:#}");
    assert!(ids(&rest).is_disjoint(&ids(&first)), "{rest:#}");

    let first = ask(&server, "default", Some(json!({}))).await;
    assert_eq!((&first["retried"], &first["left"]), (&json!(1_000), &json!(0)), "{first:#}");
    assert!(first["after"].is_string(), "{first:#}");
    let rest = ask(&server, "default", Some(json!({"after": first["after"]}))).await;
    assert_eq!((&rest["retried"], &rest["after"]), (&json!(4), &Value::Null), "{rest:#}");
    assert_eq!(server.number("SELECT count() FROM set_aside").await, 0);
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 1_004);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_rule_set_aside_are_listed_and_taken_in_where_they_can_be_within_their_project() {
    let server = Server::start().await;
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    let large = "x".repeat(2 << 20);
    let too_large = logs("shop", vec![event(now_ns(), "cart", &[("note", &large)])]);
    let nameless = logs("shop", vec![event(now_ns(), "gemba.feature.used", &[])]);
    let own = &server.keys.ingest;
    for (key, body) in [(own, invalid_utf8()), (own, too_large), (own, nameless), (&other.ingest_key, invalid_utf8())] {
        let answer = send(post(&server.url("/v1/logs"), key, PROTOBUF, body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    server.flush().await;
    let list = ask(&server, "default", None).await;
    let mut found: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["reason"].as_str().unwrap().to_owned(), item["can_be_retried"].as_bool().unwrap()))
        .collect();
    found.sort();
    let expected = [("invalid_utf8", true), ("missing_attribute", true), ("too_large", false)];
    assert_eq!(found, expected.map(|(reason, can)| (reason.to_owned(), can)), "{list:#}");
    // Another project's ids name nothing here.
    let foreign = ask(&server, "other", None).await["items"][0]["id"].as_str().unwrap().to_owned();
    let nothing = ask(&server, "default", Some(json!({"ids": [foreign]}))).await;
    assert_eq!((&nothing["retried"], &nothing["left"]), (&json!(0), &json!(0)), "{nothing:#}");

    let program = |arguments: &[&str]| {
        let url = server.running.url();
        let mut command = Command::new(binary::gemba());
        command.arg("set-aside").args(arguments).args(["--url", url, "--token", &server.keys.admin]);
        command.output().unwrap()
    };
    let listed = program(&["list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("records set aside in project default: 3") && listed.contains("not kept whole"),
        "{listed}"
    );
    assert!(!listed.contains(&foreign), "{listed}");
    let done = program(&["retry", "--json"]);
    assert_eq!(done.status.code(), Some(1), "two stay, which is no success: {done:?}");
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&done["retried"], &done["left"]), (&json!(1), &json!(2)), "{done:#}");
    let problems = done["problems"].to_string();
    assert!(problems.contains("not kept whole") && problems.contains("gemba.feature.name"), "{problems}");
    let stored =
        "SELECT count() FROM events WHERE project = 1 AND strings['place'] = 'caf\u{fffd}' AND service = 'shop'";
    assert_eq!(server.number(stored).await, 1);
    let terms = books(&server).await;
    assert_eq!(
        (terms["received"], terms["stored"], terms["set_aside"], terms["unexplained"]),
        (3, 1, 2, 0),
        "{terms:?}"
    );
    assert_eq!(ask(&server, "other", None).await["records"], 1);

    for (query, field) in [("limit=0", "limit"), ("reason=a'b", "reason"), ("after=1", "after"), ("who=me", "who")] {
        let url = server.url(&format!("/api/v1/projects/default/set-aside?{query}"));
        let answer = send(bare("GET", &url, Some(&server.keys.admin))).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(field), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_retried_is_taken_off_the_books_at_the_very_moment_they_tell_it_was_set_aside() {
    let server = Server::start().await;
    let constraint = "ALTER TABLE events ADD CONSTRAINT sane CHECK strings['id'] NOT LIKE 'bad%'";
    server.running.app().store.execute(constraint).await.unwrap();
    // A cut that was begun by one request and holds another one, received later, of which all is refused.
    let mut cut = None;
    for round in 0..50 {
        let good = event(now_ns(), "cart", &[("id", &format!("good-{round}"))]);
        server.send_logs(logs("shop", vec![good])).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let bad = event(now_ns(), "cart", &[("id", &format!("bad-{round}"))]);
        server.send_logs(logs("shop", vec![bad])).await;
        server.flush().await;
        let aside = format!(
            "SELECT toUInt64(toUnixTimestamp64Milli(received)) FROM set_aside WHERE position(body, 'bad-{round}') > 0"
        );
        let entry_ms = server.number(&aside).await;
        let booked =
            "SELECT toUInt64(toUnixTimestamp64Milli(max(received))) FROM ledger FINAL WHERE fate = 'set_aside'";
        let booked_ms = server.number(booked).await;
        if booked_ms < entry_ms {
            cut = Some((booked_ms, entry_ms));
            break;
        }
    }
    let (booked_ms, entry_ms) = cut.expect("the requests of a round share a cut in one of fifty");
    server.running.app().store.execute("ALTER TABLE events DROP CONSTRAINT sane").await.unwrap();
    let retried = ask(&server, "default", Some(json!({}))).await;
    assert_eq!(retried["left"], 0, "{retried:#}");
    server.flush().await;

    let shop = Project::default_of(server.running.url(), &server.keys);
    let at = |ms: u64| jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string();
    // The range ends between the two receipts, or begins there.
    for range in [format!("from=2020-01-01&to={}", at(booked_ms + 1)), format!("from={}", at(entry_ms))] {
        let answer = shop.get(&format!("/api/v1/queries/losses?{range}")).await.json();
        let terms = answer["rows"].as_array().unwrap();
        assert!(terms.iter().all(|row| row[0] != "set_aside"), "{range}: {answer:#}");
        assert_eq!(answer["known_loss"]["records"], 0, "{range}: {answer:#}");
    }
    assert_eq!(books(&server).await["unexplained"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_a_recent_range_reads_nothing_of_what_was_retried_long_ago() {
    use gemba_ingest::http::trust::KNOWN_LOSS;
    let server = Server::start().await;
    let store = &server.running.app().store;
    let old = "INSERT INTO retries (project, log, cut, signal, reason, records, received) SELECT 1, 9, number, 'logs', \
               'too_large', 1, now64(3) - INTERVAL 100 DAY FROM numbers(20000)";
    store.execute(old).await.unwrap();
    let now_ms = i64::try_from(now_ns() / 1_000_000).unwrap();
    let losses = gemba_queries::Catalog::builtin().unwrap().get("losses").unwrap().clone();
    let read = async |sql: &str, from: &str| {
        let estimate = format!(
            "SELECT toUInt64(sum(rows)) FROM viewExplain('EXPLAIN ESTIMATE', '', ({sql})) WHERE table = 'retries'"
        );
        let mut statement = store.raw().query_raw(&estimate);
        let params =
            [("project", "1"), ("from", from), ("to", "2100-01-01 00:00:00"), ("pending", "0"), ("booked", "0")];
        for (name, value) in params {
            statement = statement.param(name, value);
        }
        statement.fetch_one::<u64>().await.unwrap()
    };
    let recent =
        jiff::Timestamp::from_millisecond(now_ms - 7 * 86_400_000).unwrap().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let bound = losses
        .bind(
            &std::collections::BTreeMap::new(),
            &gemba_queries::ServerParams { project: 1, now_ms, pending_records: 0, booked_records: 0 },
        )
        .unwrap();
    for sql in [KNOWN_LOSS, &bound.sql] {
        assert!(read(sql, "1970-01-01 00:00:00").await >= 40_000, "it reads them twice where they may matter");
        assert_eq!(read(sql, &recent).await, 0);
    }
}
