//! Checklist E for metrics.

use super::*;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, Gauge, HistogramDataPoint, Metric, NumberDataPoint, Summary, SummaryDataPoint,
};
use serde_json::json;

fn histogram(list: Vec<Metric>) -> Row {
    let (tally, rows) = both(Signal::Metrics, &metrics(list));
    assert_eq!((tally.received, tally.kept()), (1, 1), "{tally:?}");
    table(&rows, Table::QueryHistograms).remove(0)
}

fn ours() -> opentelemetry_proto::tonic::common::v1::KeyValue {
    kv("gemba.query.fingerprint", "00000000000000ff")
}

#[test]
fn e8_e11_an_explicit_histogram_keeps_its_bounds_in_seconds() {
    let attributes = vec![
        kv("db.system", "mssql"),
        kv("db.name", "shop"),
        kv("db.operation", "SELECT"),
        kv("db.sql.table", "users"),
        kv("db.response.status_code", "23505"),
    ];
    let row = histogram(vec![duration_explicit(vec![explicit(attributes)])]);
    assert_eq!(
        (&row["bounds"], &row["bound_counts"], &row["buckets"]),
        (&json!([0.001, 0.01, 0.1]), &json!([1, 2, 3, 0]), &json!({}))
    );
    assert_eq!(
        (&row["source"], &row["temporality"], &row["count"]),
        (&json!("metric"), &json!("cumulative"), &json!(6))
    );
    assert_eq!((&row["sum_ns"], &row["system"]), (&json!(1.25e9), &json!("microsoft.sql_server")));
    assert_eq!((&row["namespace"], &row["error_type"]), (&json!("shop"), &json!("23505")));
    assert_eq!((&row["time"], &row["start"]), (&json!(RECEIVED_MS - 1), &json!(RECEIVED_MS - 10_000)));
    let expected = fingerprint::of_series(&["microsoft.sql_server", "shop", "users", "SELECT", ""]);
    assert_eq!(row["fingerprint"], expected);
}

#[test]
fn e8_a_series_without_text_declares_what_is_known_of_it() {
    let attributes =
        vec![kv("db.system.name", "mysql"), kv("db.operation.name", "SELECT"), kv("db.collection.name", "users")];
    let points = vec![explicit(attributes.clone()), explicit(attributes)];
    let (_, rows) = both(Signal::Metrics, &metrics(vec![duration_explicit(points)]));
    let texts = table(&rows, Table::QueryTexts);
    assert_eq!(texts.len(), 1);
    assert_eq!(
        (&texts[0]["summary"], &texts[0]["text"], &texts[0]["record"]),
        (&json!("SELECT users"), &json!(""), &json!(0))
    );
}

#[test]
fn e8_bucket_counts_must_fit_the_bounds() {
    for (bounds, counts) in [
        (vec![0.1, 0.2], vec![1, 2]),
        (vec![0.2, 0.1], vec![1, 2, 3]),
        (vec![0.1, f64::INFINITY], vec![1, 2, 3]),
        (vec![], vec![1, 2]),
    ] {
        let point = HistogramDataPoint { explicit_bounds: bounds, bucket_counts: counts, ..explicit(vec![]) };
        let body = metrics(vec![duration_explicit(vec![point])]).encode_to_vec();
        let mut rows = Rows::new();
        let tally = try_decode(Signal::Metrics, Encoding::Protobuf, &body, &mut rows).expect("decodes");
        assert_eq!(tally.others, [(Fate::SetAside, Reason::InvalidAttribute, 1)]);
    }
    let unknown = HistogramDataPoint { explicit_bounds: vec![], bucket_counts: vec![], ..explicit(vec![]) };
    let row = histogram(vec![duration_explicit(vec![unknown])]);
    assert_eq!((&row["bounds"], &row["bound_counts"]), (&json!([]), &json!([6])));
}

#[test]
fn e8_the_temporality_is_read_wherever_it_stands_and_must_be_known() {
    let mut metric = duration_exponential(vec![exponential(vec![ours()])]);
    assert_eq!(histogram(vec![metric.clone()])["temporality"], "delta");
    if let Some(Data::ExponentialHistogram(data)) = &mut metric.data {
        data.aggregation_temporality = 0;
    }
    assert_eq!(fate(Signal::Metrics, &metrics(vec![metric])), (Fate::SetAside, Reason::InvalidAttribute));
}

#[test]
fn e9_an_exponential_histogram_at_scale_6_is_kept_bucket_by_bucket() {
    let row = histogram(vec![duration_exponential(vec![exponential(vec![ours(), kv("http.route", "/cart")])])]);
    assert_eq!(row["buckets"], json!({"-2147483648": 1, "-200": 1, "-198": 5}));
    assert_eq!((&row["bounds"], &row["bound_counts"]), (&json!([]), &json!([])));
    assert_eq!((&row["fingerprint"], &row["source"], &row["route"]), (&json!(255), &json!("sdk"), &json!("/cart")));
    assert_eq!((&row["sum_ns"], &row["min_ns"], &row["max_ns"]), (&json!(5e8), &json!(1.0), &json!(2.5e8)));
}

#[test]
fn e9_other_scales_lose_no_count() {
    for scale in [-3, 0, 5, 6, 7, 20] {
        let point = ExponentialHistogramDataPoint { scale, ..exponential(vec![]) };
        let row = histogram(vec![duration_exponential(vec![point])]);
        let scaled = row["buckets"].as_object().expect("a map").values().filter_map(Json::as_u64).sum::<u64>();
        let bounds = row["bound_counts"].as_array().expect("a list").iter().filter_map(Json::as_u64).sum::<u64>();
        assert_eq!((scaled, bounds), if scale < 6 { (0, 7) } else { (7, 0) }, "{scale}");
    }
}

#[test]
fn e10_a_point_without_recorded_value_is_skipped() {
    let point = ExponentialHistogramDataPoint { flags: 1, ..exponential(vec![ours()]) };
    let request = metrics(vec![duration_exponential(vec![point])]);
    assert_eq!(fate(Signal::Metrics, &request), (Fate::Ignored, Reason::NoRecordedValue));
}

#[test]
fn every_point_of_a_metric_not_kept_is_counted_as_ignored() {
    let number = || NumberDataPoint { time_unix_nano: RECEIVED_NS, ..NumberDataPoint::default() };
    let list = vec![
        metric("cpu", "1", Data::Gauge(Gauge { data_points: vec![number(), number()] })),
        metric("s", "1", Data::Summary(Summary { data_points: vec![SummaryDataPoint::default()] })),
        Metric { name: "http.server.request.duration".to_owned(), ..duration_explicit(vec![explicit(vec![])]) },
        metric("db.client.operation.duration", "s", Data::Gauge(Gauge { data_points: vec![number()] })),
        Metric::default(),
    ];
    let (tally, rows) = both(Signal::Metrics, &metrics(list));
    assert_eq!((tally.received, tally.others), (5, vec![(Fate::Ignored, Reason::MetricNotKept, 5)]));
    assert!(table(&rows, Table::QueryHistograms).is_empty());
}

#[test]
fn a_stream_is_its_resource_and_attributes_in_any_order() {
    let stream = |attributes| histogram(vec![duration_explicit(vec![explicit(attributes)])])["stream"].clone();
    let base = stream(vec![kv("a", "1"), kv("b", 2)]);
    assert_eq!(stream(vec![kv("b", 2), kv("a", "1")]), base);
    assert_ne!(stream(vec![kv("a", "1"), kv("b", "2")]), base);
    assert_ne!(stream(vec![kv("a", "1")]), base);
}

#[test]
fn a_duration_in_another_unit_is_set_aside() {
    let metric = Metric { unit: "ms".to_owned(), ..duration_explicit(vec![explicit(vec![])]) };
    assert_eq!(fate(Signal::Metrics, &metrics(vec![metric])), (Fate::SetAside, Reason::InvalidAttribute));
}

#[test]
fn what_the_sdk_dropped_becomes_a_report() {
    let attributes = || vec![kv("gemba.reason", "ring_full"), kv("gemba.callsite", "src/a.rs:1 search")];
    let (tally, rows) = both(Signal::Metrics, &metrics(vec![dropped(4, attributes())]));
    assert_eq!(tally.kept(), 1);
    let row = &table(&rows, Table::SdkReports)[0];
    assert_eq!((&row["kind"], &row["reason"], &row["records"]), (&json!("dropped"), &json!("ring_full"), &json!(4)));
    assert_eq!(row["callsite"], "src/a.rs:1 search");
    assert_eq!(fate(Signal::Metrics, &metrics(vec![dropped(4, vec![])])), (Fate::SetAside, Reason::MissingAttribute));
    assert_eq!(
        fate(Signal::Metrics, &metrics(vec![dropped(-1, attributes())])),
        (Fate::SetAside, Reason::InvalidAttribute)
    );
}
