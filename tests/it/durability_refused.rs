//! Rows and tables that ClickHouse refuses for good, on the real engine: what becomes of them, and that nothing else waits.

use crate::durability_site::{PATIENCE, Site, pipeline_with};
use crate::durability_support::texts;
use bytes::Bytes;
use gemba_ingest::pipeline::{Pipeline, PipelineConfig, Submission};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message as _;
use std::time::Duration;

/// Waits for something that comes about by itself.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// A request with one record for the table `properties`.
fn user_set(like: &Submission) -> Submission {
    let attribute = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..KeyValue::default()
    };
    let record = LogRecord {
        event_name: gemba_conventions::event::USER_SET.into(),
        attributes: vec![attribute("user.id", "ann"), attribute("plan", "pro")],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    let body = Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
    Submission { raw: body.clone(), body, ..like.clone() }
}

async fn check_refused(site: &Site, pipeline: &Pipeline, refused: &[&str]) {
    let client = site.engine.client();
    site.check("without what is refused").await;
    let rows = "SELECT concat(signal, ' ', reason, ' ', extract(body, '\"stringValue\":\"([0-9]+-[0-9]+)\"')) FROM \
                set_aside WHERE detail LIKE '%sane%' ORDER BY 1";
    let expected: Vec<_> = refused.iter().map(|id| format!("logs refused_by_store {id}")).collect();
    assert_eq!(texts(&client, rows).await, expected);
    let told = "SELECT sum(records) FROM ledger FINAL WHERE fate = 'set_aside' AND reason = 'refused_by_store'";
    assert_eq!(client.number(told).await.unwrap(), refused.len() as u64);
    assert_eq!(client.number("SELECT count() FROM system.tables WHERE name LIKE 'refused%'").await.unwrap(), 0);
    let status = pipeline.status();
    assert_eq!((status.pending_records, status.refused_cuts, status.store_problem), (0, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_clickhouse_refuses_are_set_aside_and_all_others_are_stored_once() {
    let mut site = Site::start().await;
    let client = site.engine.client();
    let refused = ["0-0", "1-7", "1-9", "3-30"];
    let list = refused.map(|id| format!("'{id}'")).join(",");
    let constraint = format!("ALTER TABLE events ADD CONSTRAINT sane CHECK strings['id'] NOT IN ({list})");
    client.execute(&constraint).await.unwrap();
    let pipeline = site.pipeline();
    for _ in 0..5 {
        site.send(&pipeline, 40).await;
    }
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.status());
    for id in refused {
        assert!(site.acknowledged.remove(id));
    }
    check_refused(&site, &pipeline, &refused).await;
    let status = pipeline.status();
    assert_eq!((status.refused_records, status.fates.set_aside), (4, 4));
    site.send(&pipeline, 40).await;
    assert!(pipeline.drain(PATIENCE).await);
    check_refused(&site, &pipeline, &refused).await;
    assert_eq!(pipeline.status().log_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn which_records_are_refused_is_known_after_a_start_before_their_cut_was_stored() {
    let mut site = Site::start().await;
    let client = site.engine.client();
    client.execute("ALTER TABLE events ADD CONSTRAINT sane CHECK strings['id'] != '1-3'").await.unwrap();
    // The search succeeds; storing does not, for want of the table for what is set aside.
    client.execute("RENAME TABLE set_aside TO set_aside_away").await.unwrap();
    let pipeline = site.pipeline();
    for _ in 0..3 {
        site.send(&pipeline, 20).await;
    }
    let sum = "SELECT sum(records) FROM ledger FINAL WHERE reason = 'refused_by_store'";
    until("the refused record is found", async || client.number(sum).await.unwrap() == 1).await;
    drop(pipeline);
    client.execute("RENAME TABLE set_aside_away TO set_aside").await.unwrap();
    let pipeline = site.pipeline();
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.status());
    assert!(site.acknowledged.remove("1-3"));
    check_refused(&site, &pipeline, &["1-3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_holds_up_no_other_and_gets_its_rows_when_it_is_back() {
    let mut site = Site::start().await;
    let client = site.engine.client();
    client.execute("RENAME TABLE events TO events_away").await.unwrap();
    let config = || PipelineConfig { max_inserts: 1, ..site.config() };
    let (config, again) = (config(), config());
    let pipeline = pipeline_with(config, client.clone());
    site.send(&pipeline, 50).await;
    until("the cut is set apart", async || pipeline.status().refused_cuts == 1).await;
    let (like, _) = site.submission(0, None);
    assert_eq!(pipeline.submit(user_set(&like)).await.unwrap().tally.kept(), 1);
    until("the other table gets its row", async || client.number("SELECT count() FROM properties").await.unwrap() == 1)
        .await;
    let status = pipeline.status();
    assert!(status.needs_attention && status.store_problem.is_some_and(|told| told.contains("events")));
    assert_eq!(status.pending_records, 50);
    // A start finds the cut as one that is not stored.
    drop(pipeline);
    let pipeline = pipeline_with(again, client.clone());
    site.send(&pipeline, 50).await;
    until("it is set apart again", async || pipeline.status().refused_cuts >= 1).await;
    client.execute("RENAME TABLE events_away TO events").await.unwrap();
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.status());
    site.check("the table is back").await;
    assert_eq!(pipeline.status().refused_cuts, 0);
}
