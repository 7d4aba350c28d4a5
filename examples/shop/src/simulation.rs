//! Days of visits in seconds: the clock of the shop jumps from one thing a person does to the next.
//!
//! Every visit is a task that talks HTTP to the shop and, between two pages, waits for a moment of the shifted time. Only
//! one visit runs at a time, always the one whose moment comes first, so that the order of everything is the order of
//! the shifted clock. What is not simulated: the requests, the handlers, the database and the durations of queries.

use crate::people::{self, Errand, Person};
use crate::server::Page;
use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Why the people could not get through to the shop.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The request failed on the way.
    #[error("no answer from the shop")]
    Request(#[from] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("the answer of the shop broke off")]
    Body(#[from] hyper::Error),
    /// The address of a page is no address.
    #[error("not an address")]
    Address(#[from] http::Error),
    /// The answer is no page.
    #[error("the answer of the shop is no page")]
    Page(#[from] serde_json::Error),
    /// The simulation stopped while the visit was waiting.
    #[error("the clock of the simulation stopped")]
    Stopped,
}

/// What happened, for those who watch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Visits paid.
    pub visits: u64,
    /// Pages asked for.
    pub requests: u64,
}

/// Who visits, from when to when.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// Start, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// End of the last visit's beginning, milliseconds since the Unix epoch.
    pub to_ms: u64,
    /// How many people there are.
    pub people: u32,
    /// Visits a person pays in the period, on average.
    pub visits_each: f64,
    /// Seed of everything random.
    pub seed: u64,
}

enum Signal {
    /// Wake me at this moment.
    Sleep(u64, oneshot::Sender<()>),
    /// My visit is over, after so many requests.
    Over(Result<u64, VisitError>),
}

/// Runs every visit of the period against the shop at `shop`; `progress` is told the share done, 0 to 1.
///
/// # Errors
/// The first visit that could not reach the shop.
pub async fn run(shop: SocketAddr, period: Period, mut progress: impl FnMut(f64)) -> Result<Report, VisitError> {
    let mut random = Rng::with_seed(period.seed);
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let (signals, mut inbox) = mpsc::unbounded_channel();
    let mut waiting: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut sleepers: Vec<Option<oneshot::Sender<()>>> = Vec::new();

    for customer in 0..period.people {
        let person = Person::new(i64::from(customer), &mut random);
        // Business customers come every day.
        let mean = if person.is_business() { period.visits_each * 6.0 } else { period.visits_each };
        let mut share = random.f64() / mean;
        while share < 1.0 {
            let begins_ms = period.from_ms + scaled(period.to_ms - period.from_ms, share);
            share += (0.4 + 1.2 * random.f64()) / mean;
            let browser = Browser {
                client: client.clone(),
                shop,
                session: format!("session-{:016x}", random.u64(..)),
                customer: person.stays_signed_in.then_some(person.customer),
                now_ms: begins_ms,
                signals: signals.clone(),
                requests: 0,
                random: random.fork(),
            };
            let (start, started) = oneshot::channel();
            waiting.push(Reverse((begins_ms, sleepers.len())));
            sleepers.push(Some(start));
            tokio::spawn(browser.visit(person.clone(), started));
        }
    }
    drop(signals);

    let mut report = Report::default();
    while let Some(Reverse((moment_ms, index))) = waiting.pop() {
        gemba::testing::set_time(moment(moment_ms));
        let Some(sleeper) = sleepers.get_mut(index).and_then(Option::take) else { continue };
        if sleeper.send(()).is_err() {
            return Err(VisitError::Stopped);
        }
        // Exactly one visit is awake; it either sleeps again or is over.
        match inbox.recv().await {
            Some(Signal::Sleep(until_ms, sleeper)) => {
                waiting.push(Reverse((until_ms, index)));
                if let Some(place) = sleepers.get_mut(index) {
                    *place = Some(sleeper);
                }
            }
            Some(Signal::Over(requests)) => {
                report.visits += 1;
                report.requests += requests?;
            }
            None => return Err(VisitError::Stopped),
        }
        let done = moment_ms.saturating_sub(period.from_ms) as f64 / (period.to_ms - period.from_ms).max(1) as f64;
        progress(done.min(1.0));
    }
    Ok(report)
}

fn moment(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

fn scaled(span_ms: u64, share: f64) -> u64 {
    Duration::from_millis(span_ms).mul_f64(share.clamp(0.0, 1.0)).as_millis().try_into().unwrap_or(u64::MAX)
}

/// One visit's view of the shop.
struct Browser {
    client: Client<HttpConnector, Empty<Bytes>>,
    shop: SocketAddr,
    session: String,
    customer: Option<i64>,
    now_ms: u64,
    signals: mpsc::UnboundedSender<Signal>,
    requests: u64,
    random: Rng,
}

impl Browser {
    async fn visit(mut self, person: Person, started: oneshot::Receiver<()>) {
        let outcome = match started.await {
            Ok(()) => self.errand(&person).await,
            Err(_) => Err(VisitError::Stopped),
        };
        // When nobody listens any more, the simulation has already failed and said why.
        drop(self.signals.send(Signal::Over(outcome.map(|()| self.requests))));
    }

    async fn errand(&mut self, person: &Person) -> Result<(), VisitError> {
        self.get("/").await?;
        match person.errand(&mut self.random) {
            Errand::Shopping => self.shop(person).await,
            Errand::Review => {
                self.sign_in(person).await?;
                self.get("/messages").await?;
                let id = self.some_product();
                let text = |random: &mut Rng| format!("id={id}&text={}", people::review(random));
                self.fill_form(person, "/review", text).await.map(drop)
            }
            Errand::Profile => {
                self.sign_in(person).await?;
                self.get("/messages").await?;
                let fields = |random: &mut Rng| format!("password={}", people::password(random));
                self.fill_form(person, "/profile", fields).await.map(drop)
            }
            Errand::Return => {
                self.sign_in(person).await?;
                self.get("/orders").await?;
                self.fill_form(person, "/return", |_| "reason=too+small".to_owned()).await.map(drop)
            }
            Errand::Newsletter => {
                self.sign_in(person).await?;
                self.fill_form(person, "/newsletter", |_| "agree=yes".to_owned()).await.map(drop)
            }
            Errand::Account => self.look_after_account(person).await,
        }
    }

    async fn shop(&mut self, person: &Person) -> Result<(), VisitError> {
        let mut wants_to_buy = false;
        for _ in 0..self.random.u32(1..=3) {
            if self.random.bool() {
                let letters = format!("{}{}", self.random.lowercase(), self.random.lowercase());
                self.get(&format!("/search?text={letters}")).await?;
            } else {
                // A third of the browsing goes to the outlet: that is where the bargains are.
                let category = if self.random.f64() < 0.35 {
                    crate::database::OUTLET.to_owned()
                } else {
                    format!("shelf+{}", self.random.u32(0..20) * 2 + 1)
                };
                self.get(&format!("/browse?category={category}")).await?;
            }
            let id = self.some_product();
            let page = self.get(&format!("/product?id={id}")).await?;
            self.follow_a_link(&page).await?;
            if self.random.f64() < 0.6 {
                self.post(&format!("/cart?id={id}")).await?;
                wants_to_buy = true;
            }
        }
        if !wants_to_buy {
            return Ok(());
        }
        for _ in 0..self.random.u32(4..=9) {
            let id = self.some_product();
            self.post(&format!("/cart?id={id}")).await?;
        }
        self.get("/cart").await?;
        self.sign_in(person).await?;
        let cart = self.get("/cart").await?;
        self.follow_a_link(&cart).await?;
        // What else did I want?
        self.get("/wishes").await?;
        if self.random.f64() < 0.4 {
            let code = self.random.u32(0..300_000);
            self.post(&format!("/voucher?code=V{code}")).await?;
        }
        if self.gives_up_anyway() {
            return Ok(());
        }
        let phone = |random: &mut Rng| format!("phone={}", people::phone(random));
        let slot = |random: &mut Rng| format!("slot={}", people::slot(random));
        let card = |random: &mut Rng| format!("card={}", people::card(random));
        // Each form leads to the next only once it is taken.
        if self.fill_form(person, "/checkout/address", phone).await?
            && self.fill_form(person, "/checkout/shipping", slot).await?
            && self.fill_form(person, "/checkout/payment", card).await?
            && self.random.f64() < 0.3
        {
            self.get("/orders").await?;
        }
        Ok(())
    }

    async fn look_after_account(&mut self, person: &Person) -> Result<(), VisitError> {
        self.sign_in(person).await?;
        self.get("/account").await?;
        self.get("/orders").await?;
        self.get("/messages").await?;
        self.get("/wishes").await?;
        if self.random.f64() < 0.4 {
            let id = self.some_product();
            self.post(&format!("/wishes?id={id}")).await?;
        }
        Ok(())
    }

    /// Opens a form and fills it in, again and again until it is taken or patience ends. True when it was taken.
    async fn fill_form(
        &mut self,
        person: &Person,
        path: &str,
        fields: impl Fn(&mut Rng) -> String,
    ) -> Result<bool, VisitError> {
        let page = self.get(path).await?;
        if self.gives_up_anyway() {
            return Ok(false);
        }
        let ticket = page.ticket.unwrap_or_default();
        for _ in 0..=person.patience {
            let typed = fields(&mut self.random);
            let answer = self.post(&format!("{path}?{typed}&ticket={ticket}")).await?;
            if answer.problem.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Some people leave any form, whatever it is like.
    fn gives_up_anyway(&mut self) -> bool {
        self.random.f64() < 0.08
    }

    async fn sign_in(&mut self, person: &Person) -> Result<(), VisitError> {
        if self.customer.is_none() {
            self.customer = Some(person.customer);
            self.post("/login").await?;
        }
        Ok(())
    }

    /// One page in five sends somebody on to something extra, if it shows a link to it.
    async fn follow_a_link(&mut self, page: &Page) -> Result<(), VisitError> {
        if self.random.f64() < 0.2
            && let Some(link) = self.random.choice(&page.links).cloned()
        {
            self.get(&format!("/extra?feature={link}")).await?;
        }
        Ok(())
    }

    /// A product: best sellers are looked at as often as all others together.
    fn some_product(&mut self) -> i64 {
        if self.random.f64() < 0.45 {
            self.random.i64(0..crate::database::BEST_SELLERS)
        } else {
            self.random.i64(0..crate::database::PRODUCTS)
        }
    }

    async fn get(&mut self, path: &str) -> Result<Page, VisitError> {
        self.request(Method::GET, path).await
    }

    async fn post(&mut self, path: &str) -> Result<Page, VisitError> {
        self.request(Method::POST, path).await
    }

    async fn request(&mut self, method: Method, path: &str) -> Result<Page, VisitError> {
        self.think().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.shop))
            .header("x-session", &self.session);
        if let Some(customer) = self.customer {
            request = request.header("x-customer", customer);
        }
        let response = self.client.request(request.body(Empty::new())?).await?;
        self.requests += 1;
        let refused = response.status() == StatusCode::UNPROCESSABLE_ENTITY;
        let body = response.into_body().collect().await?.to_bytes();
        let mut page: Page = serde_json::from_slice(&body)?;
        if refused && page.problem.is_none() {
            page.problem = Some(String::new());
        }
        Ok(page)
    }

    /// Waits until the shifted clock has come to the end of the pause between two pages.
    async fn think(&mut self) -> Result<(), VisitError> {
        self.now_ms += people::think_seconds(&mut self.random) * 1_000;
        let (wake, woken) = oneshot::channel();
        self.signals.send(Signal::Sleep(self.now_ms, wake)).map_err(|_| VisitError::Stopped)?;
        woken.await.map_err(|_| VisitError::Stopped)
    }
}
