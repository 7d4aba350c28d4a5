//! What pages in a browser may send: from which origins, with a beacon, with and without a preflight.

use gemba_tests::browser;
use gemba_tests::client::{Answer, bare, post, send};
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use http_body_util::Full;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
/// What `navigator.sendBeacon` says of a text.
const TEXT: &str = "text/plain;charset=UTF-8";

fn event(name: &str) -> String {
    let record = json!({"timeUnixNano": "1790000000000000000", "eventName": name});
    json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).to_string()
}

/// A browser's question whether a page of `origin` may send.
async fn preflight(server: &Server, origin: &str) -> Answer {
    let mut request = bare("OPTIONS", &server.url("/v1/logs"), None);
    let headers = request.headers_mut();
    headers.insert("origin", origin.parse().unwrap());
    headers.insert("access-control-request-method", "POST".parse().unwrap());
    headers.insert("access-control-request-headers", "content-type".parse().unwrap());
    send(request).await
}

async fn post_from(server: &Server, origin: &str, key: &str) -> Answer {
    let mut request = post(&server.url("/v1/logs"), key, JSON, event("sent"));
    request.headers_mut().insert("origin", origin.parse().unwrap());
    send(request).await
}

async fn bind_origins(server: &Server, project: &str, origins: &[&str]) {
    let url = server.url(&format!("/api/v1/projects/{project}/origins"));
    let body = json!({"origins": origins}).to_string();
    assert_eq!(send(post(&url, &server.keys.admin, JSON, body)).await.status, 200);
}

/// The origin that an answer allows, and whether with credentials.
fn allowed(answer: &Answer) -> (&str, &str) {
    (answer.header("access-control-allow-origin"), answer.header("access-control-allow-credentials"))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_bound_to_a_project_s_keys_may_send_with_these_keys_and_no_other_page_may() {
    const SHOP: &str = "https://shop.example";
    const APP: &str = "https://app.example";
    let server = Server::start_with(|config| config.cors_origins = vec![SHOP.into()]).await;
    assert_eq!(allowed(&preflight(&server, APP).await), ("", ""), "nobody has bound it");
    let app = Project::create(server.running.url(), &server.keys, "app").await;
    bind_origins(&server, "app", &[APP]).await;
    for origin in [SHOP, APP] {
        assert_eq!(allowed(&preflight(&server, origin).await), (origin, "true"));
    }
    assert_eq!(allowed(&preflight(&server, "https://evil.example").await), ("", ""));

    let sent = post_from(&server, APP, &app.ingest_key).await;
    assert_eq!((sent.status.as_u16(), allowed(&sent)), (200, (APP, "true")));
    let sent = post_from(&server, SHOP, &app.ingest_key).await;
    assert_eq!(sent.status, 403, "the key is bound to other pages");
    let sent = post_from(&server, APP, &server.keys.ingest).await;
    assert_eq!(allowed(&sent), ("", ""), "bound to another project's key");

    let deleted = send(bare("DELETE", &server.url("/api/v1/projects/app"), Some(&server.keys.admin))).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(allowed(&preflight(&server, APP).await), ("", ""), "its project is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_of_text_is_read_as_json_where_the_url_holds_the_key() {
    const SHOP: &str = "https://shop.example";
    let server = Server::start_with(|config| config.cors_origins = vec![SHOP.into()]).await;
    let beacon = async |content_type: &str, with_header: bool, name: &str| {
        let mut request = hyper::Request::post(server.url(&format!("/v1/logs?key={}", server.keys.ingest)))
            .header("content-type", content_type)
            .header("origin", SHOP);
        if with_header {
            request = request.header("authorization", format!("Bearer {}", server.keys.ingest));
        }
        send(request.body(Full::new(event(name).into())).unwrap()).await
    };
    for (content_type, with_header, status) in [
        (TEXT, false, 200),
        ("text/plain", false, 200),
        ("text/plain; charset=latin1", false, 415),
        ("text/html", false, 415),
        (TEXT, true, 415),
    ] {
        let answer = beacon(content_type, with_header, &format!("{status} {content_type}")).await;
        assert_eq!(answer.status.as_u16(), status, "{content_type} {with_header}");
        assert_eq!((answer.header("content-type"), allowed(&answer)), (JSON, (SHOP, "true")));
    }
    // Credentials and `*` do not go together (Fetch, 3.2.5), so nobody is told that they do.
    let open = Server::start().await;
    assert_eq!(allowed(&preflight(&open, SHOP).await), ("*", ""));
    server.flush().await;
    let stored = "SELECT count() FROM events WHERE name LIKE '200 text/plain%'";
    assert_eq!((server.number(stored).await, server.number("SELECT count() FROM events").await), (2, 2));
}

/// Serves one page to whoever asks, and answers `/rest` once `is_done`, so that the page's own time stands still until then.
fn serve_page(listener: TcpListener, page: String, is_done: impl Fn() -> bool + Clone + Send + 'static) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, page, is_done) = (stream.unwrap(), page.clone(), is_done.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                let deadline = Instant::now() + Duration::from_mins(1);
                // A beacon tells its page nothing, so the server that gets it is looked at; what does not arrive is missed later.
                while first.contains("/rest") && !is_done() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    page.len()
                );
                // The browser may have left.
                drop(stream.write_all(format!("{head}{page}").as_bytes()));
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn beacons_of_a_page_on_another_port_arrive_from_a_real_browser() {
    let Some(chromium) = browser::chromium() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::start_with(|config| config.cors_origins = vec!["https://shop.example".into()]).await;
    bind_origins(&server, "default", &[&origin]).await;
    let url = server.url(&format!("/v1/logs?key={}", server.keys.ingest));
    let script = format!(
        "navigator.sendBeacon('{url}', {}); navigator.sendBeacon('{url}', new Blob([{}], {{type: '{JSON}'}})); \
         fetch('/rest').then(() => document.title = 'rested');",
        json!(event("text")),
        json!(event("blob")),
    );
    let app = Arc::clone(server.running.app());
    let page = format!("<!doctype html><link rel=icon href=data:,><script>{script}</script>");
    serve_page(listener, page, move || app.pipeline.status().fates.received >= 2);
    let page = tokio::task::spawn_blocking(move || browser::open(&chromium, &origin, Duration::from_secs(5)));
    let page = page.await.unwrap();
    assert_eq!(page.complaints, [""; 0]);
    server.flush().await;
    for name in ["text", "blob"] {
        assert_eq!(server.number(&format!("SELECT count() FROM events WHERE name = '{name}'")).await, 1, "{name}");
    }
}
