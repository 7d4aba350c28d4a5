//! `#[gemba::instrument]` on functions that give a future without being `async`, and on types that cannot be named.
//!
//! The attempt is the work of the future, however the function is written.

use super::{Later, endings, finish, poll_once};
use async_trait::async_trait;
use gemba::testing::{Attribute, Event, EventKind, Outcome, captured};
use std::fmt::Error;
use std::future::{Future, Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// As other crates name it.
type BoxFuture<'a, T> = Boxed<'a, T>;

/// Ends well, badly, or not at all.
async fn deliver(to: &str) -> Result<usize, Error> {
    Later::default().await;
    assert_ne!(to, "panic", "on purpose");
    if to.is_empty() { Err(Error) } else { Ok(to.len()) }
}

async fn deliver_text(to: String) -> Result<usize, Error> {
    deliver(&to).await
}

/// Each way in which an attempt at `deliver` can end: what came of it is the outcome.
fn every_ending<F: Future<Output = Result<usize, Error>>>(send: impl Fn(&'static str) -> F) -> Vec<Event> {
    captured(|| {
        assert_eq!(finish(send("a@b")), Ok(3));
        assert_eq!(finish(send("")), Err(Error));
        let mut left = Box::pin(send("left"));
        assert!(poll_once(left.as_mut()).is_pending());
        drop(left);
        assert!(catch_unwind(AssertUnwindSafe(|| finish(send("panic")))).is_err());
    })
}

fn assert_every_ending(events: &[Event], name: &str) {
    let error = std::any::type_name::<Error>();
    let expected = [
        (name, Outcome::Completed, false, "", ""),
        (name, Outcome::Failed, false, "", error),
        (name, Outcome::Cancelled, false, "", ""),
        (name, Outcome::Panicked, false, "", "panic"),
    ];
    assert_eq!(endings(events), expected);
    assert_eq!(events[0].attribute("length"), Some(&Attribute::Unsigned(3)));
}

fn begun(events: &[Event]) -> usize {
    events.iter().filter(|event| event.kind == EventKind::Started).count()
}

#[async_trait]
trait Mail {
    async fn send(&mut self, to: &str) -> Result<usize, Error>;

    async fn sent(&self) -> u32;

    #[gemba::instrument("mail.forget")]
    async fn forget(&mut self) {
        Later::default().await;
    }
}

struct Postman {
    sent: u32,
}

#[async_trait]
impl Mail for Postman {
    #[gemba::instrument("mail.send", length = to.len(), sent = self.sent)]
    async fn send(&mut self, to: &str) -> Result<usize, Error> {
        self.sent += 1;
        let length = deliver(to).await?;
        if length == 1 {
            return Ok(0);
        }
        Ok(length)
    }

    #[gemba::instrument("mail.sent")]
    async fn sent(&self) -> u32 {
        Later::default().await;
        self.sent
    }
}

#[test]
fn a_method_of_async_trait_is_an_attempt_that_ends_with_its_work() {
    let events = every_ending(|to| async move { Postman { sent: 7 }.send(to).await });
    assert_every_ending(&events, "mail.send");
    assert_eq!(events[0].attribute("sent"), Some(&Attribute::Unsigned(7)));
    let events = captured(|| {
        let mut postman = Postman { sent: 3 };
        assert_eq!(finish(postman.sent()), 3);
        finish(postman.forget());
        let mut forgets = postman.forget();
        assert!(poll_once(forgets.as_mut()).is_pending());
        drop(forgets);
        drop(postman.sent());
    });
    let expected = [
        ("mail.sent", Outcome::Completed, false, "", ""),
        ("mail.forget", Outcome::Completed, false, "", ""),
        ("mail.forget", Outcome::Cancelled, false, "", ""),
    ];
    assert_eq!(endings(&events), expected);
    assert_eq!(begun(&events), 3, "one that is never polled never began, as an `async fn`");
}

#[gemba::instrument("opaque.block", length = to.len())]
fn opaque_block(to: &str) -> impl Future<Output = Result<usize, Error>> + Send {
    let copied = to.to_owned();
    async move {
        let length = deliver(&copied).await?;
        Ok(length)
    }
}

/// The body takes its argument, of which the attempt keeps the length.
#[gemba::instrument("opaque.other", length = to.len())]
fn opaque_other(to: String) -> impl Future<Output = Result<usize, Error>> + Send {
    deliver_text(to)
}

#[gemba::instrument("boxed.block", length = to.len())]
fn boxed_block(to: &str) -> Pin<Box<dyn Future<Output = Result<usize, Error>> + Send + '_>> {
    Box::pin(async move { Ok(deliver(to).await?) })
}

#[gemba::instrument("boxed.other", length = to.len())]
fn boxed_other(to: &str) -> Pin<Box<dyn Future<Output = Result<usize, Error>> + Send + '_>> {
    let work = deliver(to);
    Box::pin(work)
}

/// Two futures of two types: the one returned first counts as well.
#[gemba::instrument("boxed.early", length = to.len())]
fn boxed_early(to: &str) -> BoxFuture<'_, Result<usize, Error>> {
    if to.is_empty() {
        return Box::pin(ready(Err(Error)));
    }
    Box::pin(async move { deliver(to).await })
}

#[gemba::instrument("boxed.opaque", length = to.len())]
fn boxed_opaque(to: &str) -> Pin<Box<impl Future<Output = Result<usize, Error>>>> {
    let work = deliver(to);
    Box::pin(work)
}

/// The name of the type says nothing; the body does.
#[gemba::instrument("alias.block", length = to.len())]
fn alias_block(to: &str) -> Boxed<'_, Result<usize, Error>> {
    Box::pin(async { deliver(to).await })
}

#[test]
fn a_function_that_gives_a_future_is_an_attempt_that_ends_with_it() {
    assert_every_ending(&every_ending(opaque_block), "opaque.block");
    assert_every_ending(&every_ending(|to| opaque_other(to.to_owned())), "opaque.other");
    assert_every_ending(&every_ending(boxed_block), "boxed.block");
    assert_every_ending(&every_ending(boxed_other), "boxed.other");
    assert_every_ending(&every_ending(boxed_early), "boxed.early");
    assert_every_ending(&every_ending(boxed_opaque), "boxed.opaque");
    assert_every_ending(&every_ending(alias_block), "alias.block");
}

#[gemba::instrument("begins.polled")]
fn begins_polled() -> BoxFuture<'static, ()> {
    Box::pin(async { gemba::feature!("begins.inside") })
}

#[gemba::instrument("begins.called")]
fn begins_called(works: bool) -> BoxFuture<'static, ()> {
    gemba::feature!("begins.inside");
    assert!(works, "on purpose");
    let work = async { gemba::feature!("begins.inside") };
    Box::pin(work)
}

#[test]
fn an_async_block_begins_with_its_first_poll_and_a_body_that_does_something_else_with_the_call() {
    let events = captured(|| drop(begins_polled()));
    assert_eq!(begun(&events), 0);
    let events = captured(|| drop(begins_called(true)));
    assert_eq!(endings(&events), [("begins.called", Outcome::Cancelled, false, "", "")]);
    let events = captured(|| {
        assert!(catch_unwind(|| drop(begins_called(false))).is_err());
    });
    assert_eq!(endings(&events), [("begins.called", Outcome::Panicked, false, "", "panic")]);
    let events = captured(|| {
        finish(begins_polled());
        finish(begins_called(true));
    });
    let inside: Vec<_> = events.iter().filter(|event| event.name == "begins.inside").collect();
    assert_eq!(inside.len(), 3);
    assert!(inside.iter().all(|event| event.attempt != 0), "{events:?}");
}

#[gemba::instrument("opaque.within")]
fn digits(text: &str) -> Result<impl Iterator<Item = u8>, Error> {
    if text.is_empty() {
        return Err(Error);
    }
    Ok(text.bytes())
}

#[gemba::instrument("opaque.awaited")]
async fn digits_later(text: &str) -> Result<impl Iterator<Item = u8>, Error> {
    Later::default().await;
    let length = deliver(text).await?;
    Ok(text.bytes().take(length))
}

#[test]
fn a_result_of_something_that_cannot_be_named_is_judged_as_a_result() {
    let events = captured(|| {
        assert_eq!(digits("123").unwrap().count(), 3);
        assert!(digits("").is_err());
        assert_eq!(finish(digits_later("12")).unwrap().count(), 2);
        assert!(finish(digits_later("")).is_err());
    });
    let error = std::any::type_name::<Error>();
    let expected = [
        ("opaque.within", Outcome::Completed, false, "", ""),
        ("opaque.within", Outcome::Failed, false, "", error),
        ("opaque.awaited", Outcome::Completed, false, "", ""),
        ("opaque.awaited", Outcome::Failed, false, "", error),
    ];
    assert_eq!(endings(&events), expected);
}

#[gemba::instrument("generic.any")]
fn any<T>(value: T) -> T {
    value
}

#[gemba::instrument("generic.judged")]
fn judged<T: gemba::Outcome>(value: T) -> T {
    value
}

#[gemba::instrument("generic.nested")]
fn nested() -> Result<Option<u8>, Error> {
    Ok(None)
}

#[test]
fn a_type_parameter_is_judged_by_its_return_unless_its_bounds_say_more_and_a_result_by_its_outermost_layer() {
    let events = captured(|| {
        assert!(any(Err::<u8, _>(Error)).is_err());
        assert!(judged(Err::<u8, _>(Error)).is_err());
        assert_eq!(nested(), Ok(None));
    });
    let outcomes: Vec<_> = endings(&events).into_iter().map(|(name, outcome, ..)| (name, outcome)).collect();
    let expected = [
        ("generic.any", Outcome::Completed),
        ("generic.judged", Outcome::Failed),
        ("generic.nested", Outcome::Completed),
    ];
    assert_eq!(outcomes, expected);
}

/// A future of one's own that says how the attempt at making it ended.
struct Queued(Ready<()>);

impl Future for Queued {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl gemba::Outcome for Queued {
    fn verdict(&self) -> gemba::Verdict {
        gemba::Verdict::Abandoned
    }
}

#[gemba::instrument("judged.future")]
fn queue() -> Queued {
    Queued(ready(()))
}

#[test]
fn a_future_that_says_itself_how_making_it_ended_is_taken_at_its_word() {
    let events = captured(|| finish(queue()));
    assert_eq!(endings(&events), [("judged.future", Outcome::Abandoned, false, "", "")]);
}
