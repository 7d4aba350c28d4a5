//! A server with `--cluster`: what is sent is stored once and asked for, a person is forgotten, a project deleted, nothing lost when it
//! is killed, and a batch that reaches two nodes is stored once.
//!
//! See [`gemba_tests::cluster`] for what this does not prove.

use crate::durability_support::{check_ledger, flush, kill_now, request};
use gemba_tests::binary;
use gemba_tests::client::{bare, post, send};
use gemba_tests::cluster::Cluster;
use gemba_tests::export::{event, logs, now_ns};
use gemba_tests::project::Project;
use gemba_tests::server::{Keys, Process, Server};
use serde_json::json;
use std::process::Command;
use std::sync::atomic::Ordering;

const PROTOBUF: &str = "application/x-protobuf";

/// Of two people, one of whom does not pay.
fn shopping() -> Vec<u8> {
    let at = now_ns();
    let of = |name: &str, user: &str, later: u64| event(at + later * 1_000_000, name, &[("user.id", user)]);
    logs("claims", vec![of("cart", "ann", 0), of("pay", "ann", 10), of("cart", "bob", 0), of("", "bob", 0)])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_stored_and_asked_for_and_people_and_projects_can_go() {
    let cluster = Cluster::start().await;
    let target = cluster.target("pair");
    let server = Server::start_with(|config| config.clickhouse = Some(target)).await;
    let url = server.running.url().to_owned();
    let project = Project::default_of(&url, &server.keys);
    let other = Project::create(&url, &server.keys, "other").await;
    for key in [&project.ingest_key, &other.ingest_key] {
        assert_eq!(send(post(&server.url("/v1/logs"), key, PROTOBUF, shopping())).await.status, 200);
    }
    server.flush().await;
    other.flush().await;
    let funnel = json!({"steps": [{"event": "cart"}, {"event": "pay"}]});
    assert_eq!(project.reached(&funnel).await, [2, 1]);

    let forgetting = post(
        &server.url("/api/v1/projects/default/forget"),
        &server.keys.admin,
        "application/json",
        json!({"user": "bob"}).to_string(),
    );
    let forgotten = send(forgetting).await;
    assert_eq!(forgotten.status, 200, "{forgotten:?}");
    assert_eq!(forgotten.json()["remaining"], 0, "{forgotten:?}");
    assert_eq!(project.reached(&funnel).await, [1, 1]);
    assert_eq!(other.reached(&funnel).await, [2, 1], "another project's bob stays");
    let losses = project.ask("losses", &[]).await;
    let term = |name: &str| losses.iter().find(|row| row["term"] == name).map(|row| row["records"].clone());
    assert_eq!((term("forgotten"), term("unexplained")), (Some(json!(1)), Some(json!(0))), "{losses:?}");
    check_ledger(&server.running.app().store, async || true, "after forgetting").await;

    let deleted = send(bare("DELETE", &server.url("/api/v1/projects/other"), Some(&server.keys.admin))).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let deleted = deleted.json();
    assert_eq!((&deleted["remaining"], &deleted["deleted"]["events"]), (&json!(0), &json!(3)), "{deleted}");
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 2);

    let asked = cluster.gate.asked();
    let inserts: Vec<_> = asked.iter().filter(|asked| asked.contains("INTO+events+")).collect();
    assert!(!inserts.is_empty());
    for insert in inserts {
        assert!(insert.contains("insert_quorum=auto") && insert.contains("database=default&"), "{insert}");
    }
    // Of two replicas each tells of its own.
    for at_all in ["clusterAllReplicas('pair', system.mutations)", "clusterAllReplicas('pair', system.parts)"] {
        assert!(asked.iter().any(|asked| asked.contains(at_all)), "{at_all}");
    }
    assert!(asked.iter().any(|asked| asked.contains("database=default_distributed&") && asked.contains("FROM events")));
    assert!(server.running.stop().await);
    cluster.stop().await;
}

/// A server of the cluster as a process of its own.
fn start_node(cluster: &Cluster, number: usize) -> Process {
    let data = cluster.folder.path().join(format!("node{number}"));
    let password = cluster.engine.password();
    let (url, name) = (&cluster.gate.url, ["--cluster", "pair"]);
    let arguments = ["--clickhouse", url, "--clickhouse-password", password, "--no-own-use", name[0], name[1]];
    Process::start(&data, &arguments)
}

fn ids(batch: u64) -> Vec<String> {
    (0..=batch).map(|index| format!("{batch}-{index}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_and_a_server_that_is_killed_neither_lose_nor_double() {
    let cluster = Cluster::start().await;
    let mut serve = start_node(&cluster, 0);
    let keys = Keys::of(&cluster.folder.path().join("node0"));
    let mut stored = 0;
    let store = cluster.server();
    let logs = async |serve: &Process, batch: u64| {
        let body = request(&ids(batch), 1_790_000_000_000);
        let answer = send(post(&format!("{}/v1/logs", serve.url), &keys.ingest, PROTOBUF, body)).await;
        assert_eq!(answer.status, 200);
        batch + 1
    };
    cluster.gate.loses.store(1, Ordering::SeqCst);
    stored += logs(&serve, 3).await;
    flush(&serve.url, &keys).await;
    assert_eq!(cluster.gate.loses.load(Ordering::SeqCst), 0, "an answer was lost");
    assert_eq!(store.number("SELECT count() FROM events").await.unwrap(), stored);
    let counts =
        cluster.gate.asked().iter().filter(|asked| asked.contains("clusterAllReplicas('pair', `default`")).count();
    assert!(counts > 0, "what became of it was asked of all replicas");

    cluster.gate.is_shut.store(true, Ordering::SeqCst);
    stored += logs(&serve, 5).await;
    kill_now(serve.id());
    serve.wait(std::time::Duration::from_mins(1));
    cluster.gate.is_shut.store(false, Ordering::SeqCst);
    assert!(store.number("SELECT count() FROM events").await.unwrap() < stored, "it lies in the log alone");
    let serve = start_node(&cluster, 0);
    flush(&serve.url, &keys).await;
    assert_eq!(store.number("SELECT count() FROM events").await.unwrap(), stored);
    assert_eq!(store.number("SELECT uniqExact(strings['id']) FROM events").await.unwrap(), stored);
    check_ledger(&store, async || true, "after a kill").await;
    assert_eq!(serve.stop(), Some(0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_reaches_two_nodes_of_a_cluster_is_stored_once() {
    let cluster = Cluster::start().await;
    let nodes = [start_node(&cluster, 0), start_node(&cluster, 1)];
    let keys = Keys::of(&cluster.folder.path().join("node0"));
    let store = cluster.server();
    let mut events = 0;
    for batch in 0..24_u64 {
        let posts = nodes.each_ref().map(|node| {
            let body = request(&ids(batch), 1_790_000_000_000);
            let mut post = post(&format!("{}/v1/logs", node.url), &keys.ingest, PROTOBUF, body);
            let key = format!("0f3c1f7e-0000-4000-8000-000000000000-{batch}");
            post.headers_mut().insert("idempotency-key", key.parse().unwrap());
            post
        });
        let [one, other] = posts;
        let (one, other) = tokio::join!(send(one), send(other));
        assert_eq!((one.status.as_u16(), other.status.as_u16()), (200, 200));
        events += batch + 1;
        if batch % 4 == 3 {
            // Both make a cut, at the same time.
            tokio::join!(flush(&nodes[0].url, &keys), flush(&nodes[1].url, &keys));
        }
    }
    assert_eq!(store.number("SELECT count() FROM events").await.unwrap(), events);
    assert_eq!(store.number("SELECT uniqExact(strings['id']) FROM events").await.unwrap(), events);
    let repeats = "SELECT sum(records) FROM ledger FINAL WHERE fate = 'deduplicated'";
    assert_eq!(store.number(repeats).await.unwrap(), events);
    // Turns follow each other without gaps, each with one insert, by both nodes.
    let turns = "FROM claims WHERE project = 0 AND kind = 1";
    let number = async |what: &str| store.number(&format!("SELECT {what} {turns}")).await.unwrap();
    let last = number("max(key_high)").await;
    assert!(last >= 12, "{last}");
    assert_eq!(number("count()").await, last);
    assert_eq!(number("uniqExact(key_high, _block_number)").await, last);
    assert_eq!(number("uniqExact(log)").await, 2);
    for node in nodes {
        assert_eq!(node.stop(), Some(0));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_what_goes_with_a_cluster() {
    let cluster = Cluster::start().await;
    let data = cluster.folder.path().join("data");
    let run = |arguments: &[&str]| {
        let output = Command::new(binary::gemba()).args(arguments).arg("--data").arg(&data).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for command in [&["serve", "--cluster", "one"][..], &["migrate", "status", "--cluster", "one"]] {
        let (is_done, told) = run(command);
        let hint = "hint: name one server of the cluster with --clickhouse URL, or leave --cluster out";
        assert!(!is_done && told.contains(hint), "{told}");
        assert!(!data.exists(), "nothing is made");
    }
    let (is_done, told) = run(&["serve", "--cluster", "a b", "--clickhouse", "http://127.0.0.1:1"]);
    assert!(!is_done && told.contains("is no name of a cluster"), "{told}");
    let server = ["--clickhouse", &cluster.gate.url, "--clickhouse-password", cluster.engine.password()];
    let (is_done, told) = run(&[&["migrate", "up", "--cluster", "many"][..], &server].concat());
    assert!(!is_done && told.contains("cluster many has 2 shards; one shard"), "{told}");
    let (is_done, told) = run(&[&["migrate", "up", "--cluster", "one"][..], &server].concat());
    assert!(is_done, "{told}");
    let (is_done, told) = run(&[&["serve", "--listen", "127.0.0.1:0", "--no-grpc-listen"][..], &server].concat());
    assert!(!is_done && told.contains("was made with --cluster; give it again"), "{told}");
    cluster.stop().await;
}
