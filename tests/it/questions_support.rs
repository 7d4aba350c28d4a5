//! What claims about questions share: recording, asking, reading answers.

use gemba_tests::client::{Answer, post, send};
use gemba_tests::export;
use gemba_tests::project::Project;
use hyper::Method;
use serde_json::Value;

/// 2026-03-02T10:00:00Z; the claims' events lie some minutes after it.
pub(crate) const START_NS: u64 = 1_772_445_600_000_000_000;
pub(crate) const MINUTE_NS: u64 = 60_000_000_000;
pub(crate) const RANGE: &str = "from=2026-03-01&to=2026-04-01";

/// One thing somebody did: minute, event, attributes.
pub(crate) type Did<'a> = (u64, &'a str, &'a [(&'a str, &'a str)]);

pub(crate) async fn record(project: &Project, did: &[Did<'_>]) {
    let records =
        did.iter().map(|(minute, name, pairs)| export::event(START_NS + minute * MINUTE_NS, name, pairs)).collect();
    project.send("/v1/logs", vec![export::logs("shop", records)]).await;
    project.flush().await;
}

pub(crate) async fn request(project: &Project, method: Method, path: &str, key: &str, body: &Value) -> Answer {
    let mut request = post(&format!("{}{path}", project.url), key, "application/json", body.to_string());
    *request.method_mut() = method;
    send(request).await
}

pub(crate) async fn put(project: &Project, path: &str, body: &Value) -> Value {
    let answer = request(project, Method::PUT, path, &project.read_key, body).await;
    assert!(answer.status.is_success(), "{path} {body}: {:?}", answer.body);
    answer.json()
}

pub(crate) async fn delete(project: &Project, path: &str) -> Answer {
    request(project, Method::DELETE, path, &project.read_key, &Value::Null).await
}

pub(crate) async fn get(project: &Project, path: &str) -> Value {
    let answer = project.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
    answer.json()
}

/// What a refusal says: its code and message.
pub(crate) async fn refused(project: &Project, path: &str) -> (String, String) {
    said(&project.get(path).await)
}

pub(crate) fn said(answer: &Answer) -> (String, String) {
    assert!(answer.status.is_client_error(), "{}: {:?}", answer.status, answer.body);
    let error = &answer.json()["error"];
    assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{error}");
    (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

/// Text as part of a query string.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

/// The first row of an answer with this value in this column, as the value of another.
pub(crate) fn cell(answer: &Value, (column, value): (&str, &str), wanted: &str) -> Value {
    let place = |name: &str| answer["columns"].as_array().unwrap().iter().position(|one| one["name"] == name).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    rows.iter().find(|row| row[place(column)] == value).map_or(Value::Null, |row| row[place(wanted)].clone())
}

/// ann and bob look and pay or not; ann was anonymous (s-1) at first, is pro and internal; eve is a bot.
pub(crate) async fn people(project: &Project) {
    record(
        project,
        &[
            (0, "look", &[("session.id", "s-1")]),
            (1, "gemba.identify", &[("session.id", "s-1"), ("user.id", "ann")]),
            (2, "pay", &[("user.id", "ann")]),
            (3, "look", &[("user.id", "bob")]),
            (4, "look", &[("user.id", "eve"), ("agent", "googlebot")]),
            (5, "gemba.user.set", &[("user.id", "ann"), ("plan", "pro"), ("internal", "yes")]),
            (6, "gemba.user.set", &[("user.id", "bob"), ("plan", "free")]),
        ],
    )
    .await;
}

pub(crate) async fn lookers(project: &Project, more: &str) -> Value {
    let answer = get(project, &format!("/api/v1/queries/feature_usage?{RANGE}&{more}")).await;
    cell(&answer, ("feature", "look"), "users")
}

/// Sets the filter of the project `default`.
pub(crate) async fn leave_out(project: &Project, admin_key: &str, filter: &Value) {
    let answer = request(project, Method::PUT, "/api/v1/projects/default/filter", admin_key, filter).await;
    assert!(answer.status.is_success(), "{:?}", answer.body);
}
