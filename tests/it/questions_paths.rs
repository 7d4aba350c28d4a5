//! Paths are what a plain walk through people's visits finds.

use crate::questions_support::{MINUTE_NS, RANGE, START_NS, get};
use gemba_tests::export;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use std::collections::BTreeMap;

/// A visit as it is looked at: its names in order, the same several times in a row once.
fn visits(mut did: Vec<(u64, &'static str)>, pause_minutes: u64) -> Vec<Vec<&'static str>> {
    did.sort_unstable();
    let mut visits: Vec<Vec<&str>> = Vec::new();
    let mut last = None;
    for (minute, name) in did {
        if last.is_none_or(|last| minute - last > pause_minutes) {
            visits.push(Vec::new());
        }
        last = Some(minute);
        let visit = visits.last_mut().unwrap();
        if visit.last() != Some(&name) {
            visit.push(name);
        }
    }
    visits
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_those_of_a_plain_walk_through_the_visits() {
    const NAMES: [&str; 4] = ["home", "item", "cart", "search"];
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    // Numbers without a pattern, always the same.
    let mut state = 7_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut records = Vec::new();
    let mut all = Vec::new();
    for user in 0..40 {
        let user = format!("u{user}");
        let mut did = Vec::new();
        for _ in 0..below(14) {
            // Some share a minute, some lie exactly the pause apart.
            let (minute, name) = (below(8) * 15 + below(3), NAMES[usize::try_from(below(4)).unwrap()]);
            records.push(export::event(START_NS + minute * MINUTE_NS, name, &[("user.id", &user)]));
            did.push((minute, name));
        }
        all.extend(visits(did, 30));
    }
    shop.send("/v1/logs", vec![export::logs("shop", records)]).await;
    shop.flush().await;
    for (direction, depth) in [("after", 5), ("before", 5), ("before", 1), ("both", 2), ("after", 1)] {
        let mut expected: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
        for visit in &all {
            let Some(place) = visit.iter().position(|name| *name == "item") else { continue };
            let first = if direction == "after" { place } else { place.saturating_sub(depth) };
            let last = if direction == "before" { place } else { (place + depth).min(visit.len() - 1) };
            *expected.entry(visit[first..=last].to_vec()).or_default() += 1;
        }
        let path = format!("/api/v1/queries/paths?{RANGE}&event=item&direction={direction}&depth={depth}&limit=10000");
        let answer = get(&shop, &path).await;
        let rows = answer["rows"].as_array().unwrap();
        let found: BTreeMap<Vec<&str>, u64> = rows
            .iter()
            .map(|row| {
                let names = row[0].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
                (names, row[1].as_u64().unwrap())
            })
            .collect();
        assert!(expected.len() > 3, "{direction}: the walk must find something");
        assert_eq!(found, expected, "{direction} {depth}");
    }
}
