//! The shop over HTTP: one handler a page, each recording what it is with one macro.
//!
//! A page answers JSON: the links it shows (people can only follow what they see), a ticket where it holds a form that
//! an attempt waits behind, and a problem where it refused what was typed. Status 422 means the form was refused.

use crate::database::{Database, Item};
use crate::plants::{ConfusingForm, Plants, UnlinkedFeature};
use bytes::Bytes;
use gemba::Attempt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::net::TcpListener;

gemba::funnel! {
    /// From the cart to the order.
    pub enum Checkout = "checkout" {
        /// The cart is looked at.
        Cart = "cart",
        /// The address form is shown.
        Address = "address",
        /// The choice of a delivery slot is shown.
        Shipping = "shipping",
        /// The payment form is shown.
        Payment = "payment",
        /// The order is placed.
        Done = "done",
    }
}

/// What a page shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Page {
    /// Names of the extra features the page links to.
    #[serde(default)]
    pub links: Vec<String>,
    /// How many lines the page lists.
    #[serde(default)]
    pub lines: usize,
    /// Where the page holds a form: the attempt that waits for it.
    #[serde(default)]
    pub ticket: Option<String>,
    /// Where a form was refused: what the page says.
    #[serde(default)]
    pub problem: Option<String>,
}

/// What the shop could not do.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// The database refused.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
    /// There is no such page.
    #[error("no such page")]
    NoSuchPage,
    /// A form was refused.
    #[error("{0}")]
    Refused(&'static str),
}

#[derive(Debug)]
struct Shop {
    database: Database,
    plants: Plants,
}

/// Serves the shop on `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, database: Database, plants: Plants) {
    let shop = Arc::new(Shop { database, plants });
    loop {
        // A failed accept concerns one client; the next one may come through.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shop = Arc::clone(&shop);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shop = Arc::clone(&shop);
                async move { Ok::<_, std::convert::Infallible>(shop.answer(request).await) }
            });
            // The client going away is its own business.
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// What a request says of itself.
struct Visit {
    session: String,
    customer: Option<i64>,
    fields: HashMap<String, String>,
}

impl Visit {
    fn of(request: &Request<Incoming>) -> Self {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let fields = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.replace('+', " ")))
            .collect();
        Self {
            session: header("x-session").unwrap_or_default(),
            customer: header("x-customer").and_then(|text| text.parse().ok()),
            fields,
        }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.field(name).parse().unwrap_or(0)
    }

    fn customer(&self) -> i64 {
        self.customer.unwrap_or(0)
    }
}

impl Shop {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let visit = Visit::of(&request);
        let mut scope = gemba::scope().session(&visit.session);
        if let Some(customer) = visit.customer {
            scope = scope.user(format!("customer-{customer}"));
        }
        let page = scope.run_async(self.page(request.method(), request.uri().path(), &visit)).await;
        let (status, page) = match page {
            Ok(page) => (StatusCode::OK, page),
            Err(ShopError::Refused(problem)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Page { problem: Some(problem.to_owned()), ..Page::default() })
            }
            Err(ShopError::NoSuchPage) => (StatusCode::NOT_FOUND, Page::default()),
            Err(ShopError::Database(_)) => (StatusCode::INTERNAL_SERVER_ERROR, Page::default()),
        };
        // A page is plain data; should it ever fail to become JSON, an empty body is what the browser would show.
        let body = serde_json::to_vec(&page).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }

    async fn page(&self, method: &Method, path: &str, visit: &Visit) -> Result<Page, ShopError> {
        match (method.as_str(), path) {
            ("GET", "/") => self.home().await,
            ("GET", "/search") => self.search(visit.field("text")).await,
            ("GET", "/browse") => self.browse(visit.field("category")).await,
            ("GET", "/product") => self.product(visit.number("id")).await,
            ("POST", "/login") => Ok(login(visit)),
            ("POST", "/cart") => self.cart_add(visit).await,
            ("GET", "/cart") => self.cart(visit).await,
            ("POST", "/voucher") => self.voucher(visit).await,
            ("GET", "/checkout/address") => self.checkout_form(Checkout::Address, visit).await,
            ("POST", "/checkout/address") => self.address(visit),
            ("GET", "/checkout/shipping") => self.checkout_form(Checkout::Shipping, visit).await,
            ("POST", "/checkout/shipping") => self.shipping(visit),
            ("GET", "/checkout/payment") => self.checkout_form(Checkout::Payment, visit).await,
            ("POST", "/checkout/payment") => self.payment(visit).await,
            ("GET", "/orders") => self.orders(visit.customer()).await,
            ("GET", "/account") => self.account(visit.customer()).await,
            ("GET", "/messages") => self.messages(visit.customer()).await,
            ("GET", "/wishes") => self.wishes(visit.customer()).await,
            ("POST", "/wishes") => self.add_wish(visit).await,
            ("GET", "/review") => Ok(form(gemba::attempt!("review.write"))),
            ("POST", "/review") => self.review(visit).await,
            ("GET", "/profile") => Ok(form(gemba::attempt!("profile.edit"))),
            ("POST", "/profile") => self.profile(visit).await,
            ("GET", "/return") => Ok(form(gemba::attempt!("order.return"))),
            ("POST", "/return") => self.take_return(visit).await,
            ("GET", "/newsletter") => Ok(form(gemba::attempt!("newsletter.subscribe"))),
            ("POST", "/newsletter") => self.subscribe(visit).await,
            ("GET", "/extra") => extra(visit.field("feature")),
            _ => Err(ShopError::NoSuchPage),
        }
    }

    /// The extra features a page links to: all but the one the plant left out.
    fn links(&self) -> Vec<String> {
        UnlinkedFeature::ALL
            .into_iter()
            .filter(|feature| self.plants.unlinked != Some(*feature))
            .map(|feature| feature.name().to_owned())
            .collect()
    }

    fn list(&self, items: &[Item]) -> Page {
        Page { links: self.links(), lines: items.len(), ..Page::default() }
    }

    fn confuses(&self, form: ConfusingForm) -> bool {
        self.plants.confusing == Some(form)
    }

    #[gemba::instrument("home.view")]
    async fn home(&self) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.popular().await?))
    }

    #[gemba::instrument("search.run")]
    async fn search(&self, text: &str) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.search(text).await?))
    }

    #[gemba::instrument("category.browse")]
    async fn browse(&self, category: &str) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.listing(category).await?))
    }

    #[gemba::instrument("product.view")]
    async fn product(&self, id: i64) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.product(id).await?))
    }

    #[gemba::instrument("cart.add")]
    async fn cart_add(&self, visit: &Visit) -> Result<Page, ShopError> {
        self.database.add_to_cart(&visit.session, visit.number("id")).await?;
        Ok(Page::default())
    }

    #[gemba::instrument("cart.view")]
    async fn cart(&self, visit: &Visit) -> Result<Page, ShopError> {
        gemba::step!(Checkout::Cart);
        Ok(self.list(&self.database.cart(&visit.session).await?))
    }

    #[gemba::instrument("voucher.check")]
    async fn voucher(&self, visit: &Visit) -> Result<Page, ShopError> {
        self.database.voucher(visit.field("code")).await?;
        Ok(Page::default())
    }

    /// A form of the checkout, beside it what is going to be bought.
    async fn checkout_form(&self, step: Checkout, visit: &Visit) -> Result<Page, ShopError> {
        gemba::step!(step);
        self.order_summary(visit).await
    }

    #[gemba::instrument("order.summary")]
    async fn order_summary(&self, visit: &Visit) -> Result<Page, ShopError> {
        let lines = self.database.cart(&visit.session).await?.len();
        Ok(Page { lines, ..Page::default() })
    }

    fn address(&self, visit: &Visit) -> Result<Page, ShopError> {
        let phone = visit.field("phone");
        let taken = if self.confuses(ConfusingForm::Address) {
            phone.bytes().all(|byte| byte.is_ascii_digit())
        } else {
            phone.bytes().any(|byte| byte.is_ascii_digit())
        };
        if taken { Ok(Page::default()) } else { Err(ShopError::Refused("Please check your entries.")) }
    }

    fn shipping(&self, visit: &Visit) -> Result<Page, ShopError> {
        let sold_out = self.confuses(ConfusingForm::Shipping) && visit.field("slot") == "morning";
        if sold_out { Err(ShopError::Refused("Something went wrong.")) } else { Ok(Page::default()) }
    }

    async fn payment(&self, visit: &Visit) -> Result<Page, ShopError> {
        let card = visit.field("card");
        if self.confuses(ConfusingForm::Payment) && card.contains(' ') {
            return Err(ShopError::Refused("Your payment could not be processed."));
        }
        gemba::attempt!("order.place").run_async(self.database.place_order(visit.customer(), 4_200)).await?;
        gemba::step!(Checkout::Done);
        Ok(Page::default())
    }

    #[gemba::instrument("orders.list")]
    async fn orders(&self, customer: i64) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.orders(customer).await?))
    }

    #[gemba::instrument("account.view")]
    async fn account(&self, customer: i64) -> Result<Page, ShopError> {
        Ok(self.list(&[self.database.statement(customer).await?]))
    }

    #[gemba::instrument("messages.read")]
    async fn messages(&self, customer: i64) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.messages(customer).await?))
    }

    #[gemba::instrument("wishes.list")]
    async fn wishes(&self, customer: i64) -> Result<Page, ShopError> {
        Ok(self.list(&self.database.wishes(customer).await?))
    }

    #[gemba::instrument("wishes.add")]
    async fn add_wish(&self, visit: &Visit) -> Result<Page, ShopError> {
        self.database.add_wish(visit.customer(), visit.number("id")).await?;
        Ok(Page::default())
    }

    async fn review(&self, visit: &Visit) -> Result<Page, ShopError> {
        if self.confuses(ConfusingForm::Review) && visit.field("text").len() < 120 {
            return Err(ShopError::Refused("Your review could not be saved."));
        }
        self.database.add_review(visit.number("id"), visit.customer(), 4).await?;
        Ok(accepted(visit))
    }

    async fn profile(&self, visit: &Visit) -> Result<Page, ShopError> {
        let special = visit.field("password").bytes().any(|byte| byte.is_ascii_punctuation());
        if self.confuses(ConfusingForm::Profile) && !special {
            return Err(ShopError::Refused("Invalid input."));
        }
        self.database.set_profile(visit.customer(), "renamed").await?;
        Ok(accepted(visit))
    }

    async fn take_return(&self, visit: &Visit) -> Result<Page, ShopError> {
        self.database.add_return(visit.customer(), visit.field("reason")).await?;
        Ok(accepted(visit))
    }

    async fn subscribe(&self, visit: &Visit) -> Result<Page, ShopError> {
        self.database.subscribe(visit.customer()).await?;
        Ok(accepted(visit))
    }
}

/// A form is shown: its attempt leaves the request as a ticket and waits for the person.
fn form(attempt: Attempt) -> Page {
    Page { ticket: Some(attempt.detach().to_string()), ..Page::default() }
}

/// A form came back and was taken: the attempt its ticket stands for is complete.
fn accepted(visit: &Visit) -> Page {
    // A person may send a ticket that is no ticket; the form counts all the same, the attempt stays open.
    if let Ok(ticket) = visit.field("ticket").parse()
        && let Ok(attempt) = Attempt::resume(&ticket)
    {
        attempt.complete();
    }
    Page::default()
}

fn login(visit: &Visit) -> Page {
    if let Some(customer) = visit.customer {
        gemba::identify(format!("customer-{customer}"), gemba::Known::Session(&visit.session));
    }
    gemba::feature!("account.login");
    Page::default()
}

fn extra(feature: &str) -> Result<Page, ShopError> {
    match feature {
        "gift.wrap" => gemba::feature!("gift.wrap"),
        "store.pickup" => gemba::feature!("store.pickup"),
        "product.compare" => gemba::feature!("product.compare"),
        "price.alert" => gemba::feature!("price.alert"),
        _ => return Err(ShopError::NoSuchPage),
    }
    Ok(Page::default())
}
