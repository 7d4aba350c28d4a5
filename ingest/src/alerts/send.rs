//! Delivers alerts, and counts what was delivered.

use super::Deliveries;
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a delivery may take.
const DELIVERY: Duration = Duration::from_secs(10);

/// Where alerts go, and whether they arrived last time.
#[derive(Debug)]
pub(super) struct Receiver {
    agent: ureq::Agent,
    url: String,
    is_failing: bool,
}

impl Receiver {
    pub(super) fn new(url: &str) -> Self {
        // A receiver that sends elsewhere has taken nothing: a redirected POST becomes a GET.
        let agent = ureq::Agent::config_builder().timeout_global(Some(DELIVERY)).max_redirects(0).build();
        Self { agent: agent.into(), url: url.to_owned(), is_failing: false }
    }

    /// Delivers; whether the receiver took it.
    pub(super) async fn take(&mut self, body: Value, deliveries: &Deliveries) -> bool {
        let outcome = self.post(body).await;
        let count = if outcome.is_ok() { &deliveries.ok } else { &deliveries.failed };
        count.fetch_add(1, Ordering::Relaxed);
        let was_failing = std::mem::replace(&mut self.is_failing, outcome.is_err());
        if let Err(problem) = &outcome
            && !was_failing
        {
            // Once, and not for every try.
            tracing::warn!(problem, "alerts cannot be delivered; they are tried again with every look");
        }
        outcome.is_ok()
    }

    async fn post(&self, body: Value) -> Result<(), String> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let sending = tokio::task::spawn_blocking(move || {
            agent.post(&url).header("content-type", "application/json").send(body.to_string())
        });
        match sending.await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("the receiver answers {}", answer.status())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
