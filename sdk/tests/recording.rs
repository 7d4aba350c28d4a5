//! What code records is what a test sees: names, attributes, identity, outcomes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::let_underscore_must_use,
    reason = "what goes wrong here ends the test"
)]

#[path = "recording/instrument.rs"]
mod instrument;
#[path = "recording/tasks.rs"]
mod tasks;

use gemba::testing::{Attribute, Event, EventKind, Outcome, captured, captured_async};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

gemba::funnel! {
    /// From the cart to the money.
    pub enum Checkout = "checkout" {
        Cart = "cart",
        Address = "address" (was = "shipping"),
        Payment = "payment",
    }
}

/// Ready at the second poll.
#[derive(Default)]
struct Later {
    is_polled: bool,
}

impl Future for Later {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.is_polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls to the end on this thread.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return output;
        }
    }
}

fn endings(events: &[Event]) -> Vec<(&str, Outcome, bool, &str, &str)> {
    let ended = events.iter().filter(|event| event.kind == EventKind::Ended);
    ended
        .map(|event| {
            (
                event.name.as_str(),
                event.outcome.unwrap(),
                event.is_inferred,
                event.reason.as_str(),
                event.error.as_str(),
            )
        })
        .collect()
}

#[test]
fn every_kind_of_value_arrives_and_none_leaves_its_key_out() {
    let events = captured(|| {
        let text = "ä".repeat(20);
        let nothing: Option<u8> = None;
        gemba::feature!(
            "values.all",
            small = -3_i8,
            large = u64::MAX,
            size = 7_usize,
            ratio = 0.5_f32,
            yes = true,
            text = text,
            cart.id = "c1",
            r#type = Some("t"),
            nothing = nothing,
            took = Duration::from_millis(1500),
        );
    });
    let text = Attribute::Text("ä".repeat(20));
    let expected = [
        ("small", Attribute::Integer(-3)),
        ("large", Attribute::Unsigned(u64::MAX)),
        ("size", Attribute::Unsigned(7)),
        ("ratio", Attribute::Float(0.5)),
        ("yes", Attribute::Bool(true)),
        ("text", text),
        ("cart.id", Attribute::Text("c1".into())),
        ("type", Attribute::Text("t".into())),
        ("took", Attribute::Float(1.5)),
    ];
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].attributes, expected);
}

#[test]
fn texts_of_every_length_arrive_unchanged() {
    let longest: String = ('a'..='z').cycle().take(80).collect();
    let events = captured(|| {
        for length in 0..=longest.len() {
            gemba::feature!("values.text", text = &longest[..length]);
        }
    });
    for (length, event) in events.iter().enumerate() {
        assert_eq!(event.attribute("text"), Some(&Attribute::Text(longest[..length].into())), "{length}");
    }
    assert_eq!(events.len(), 81);
}

#[test]
fn a_step_carries_its_funnel_and_any_expression_of_the_enum_will_do() {
    let events = captured(|| {
        let reached = [Checkout::Cart, Checkout::Payment];
        gemba::step!(reached[1], plan = "pro");
        gemba::step!(if reached.is_empty() { Checkout::Cart } else { Checkout::Address });
    });
    let names: Vec<_> = events.iter().map(|event| (event.kind, event.name.as_str())).collect();
    assert_eq!(names, [(EventKind::Step, "checkout.payment"), (EventKind::Step, "checkout.address")]);
}

#[test]
fn a_scope_is_seen_inside_and_nowhere_else() {
    let events = captured(|| {
        gemba::scope().user(7).tenant("acme").session("secret").run(|| {
            gemba::feature!("scope.outer");
            gemba::scope().user("inner").run(|| gemba::feature!("scope.inner"));
            gemba::feature!("scope.outer");
        });
        gemba::feature!("scope.none");
    });
    let seen: Vec<_> = events.iter().map(|event| (event.user.as_str(), event.tenant.as_str())).collect();
    assert_eq!(seen, [("7", "acme"), ("inner", "acme"), ("7", "acme"), ("", "")]);
    assert_eq!(events[0].session.len(), 32, "a hash of 128 bits");
    assert!(!events[0].session.contains("secret"));
    assert_eq!(events[1].session, events[0].session);
}

#[test]
fn a_panic_leaves_the_scope() {
    let events = captured(|| {
        let panicked = std::panic::catch_unwind(|| gemba::scope().user("u").run(|| panic!("on purpose")));
        assert!(panicked.is_err());
        gemba::feature!("scope.after");
    });
    assert_eq!(events[0].user, "");
}

#[test]
fn tasks_that_share_threads_never_see_each_others_identity() {
    const TASKS: u32 = if cfg!(miri) { 20 } else { 2_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let events = runtime.block_on(captured_async(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|number| {
                let work = async move {
                    for turn in 0..5_u32 {
                        gemba::feature!("scope.task", number = number, turn = turn);
                        tokio::task::yield_now().await;
                    }
                };
                tokio::spawn(gemba::scope().user(number).run_async(work))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }));
    assert_eq!(events.len(), 5 * TASKS as usize);
    for event in &events {
        assert_eq!(event.attribute("number"), Some(&Attribute::Unsigned(event.user.parse().unwrap())));
    }
}

#[test]
fn results_decide_and_a_bare_guard_is_inferred() {
    let events = captured(|| {
        let _ = gemba::attempt!("matrix.ok").run(|| Ok::<_, std::fmt::Error>(1));
        let _ = gemba::attempt!("matrix.err").run(|| Err::<(), _>(std::fmt::Error));
        let _ = gemba::attempt!("matrix.none").run(|| None::<u8>);
        gemba::attempt!("matrix.unit").run(|| ());
        gemba::attempt!("matrix.said").fail("card_declined");
        gemba::attempt!("matrix.left").abandon();
        gemba::attempt!("matrix.stopped").cancel();
        let judged = gemba::attempt!("matrix.judged").run_with(|| 3, |_| gemba::Verdict::Abandoned);
        assert_eq!(judged, 3);
        let bare = gemba::attempt!("matrix.bare");
        gemba::feature!("matrix.inside");
        drop(bare);
    });
    let error = std::any::type_name::<std::fmt::Error>();
    let expected = [
        ("matrix.ok", Outcome::Completed, false, "", ""),
        ("matrix.err", Outcome::Failed, false, "", error),
        ("matrix.none", Outcome::Failed, false, "", "none"),
        ("matrix.unit", Outcome::Completed, false, "", ""),
        ("matrix.said", Outcome::Failed, false, "", "card_declined"),
        ("matrix.left", Outcome::Abandoned, false, "", ""),
        ("matrix.stopped", Outcome::Cancelled, false, "", ""),
        ("matrix.judged", Outcome::Abandoned, false, "", ""),
        ("matrix.bare", Outcome::Abandoned, true, "", ""),
    ];
    assert_eq!(endings(&events), expected);
    let begun = events.iter().filter(|event| event.kind == EventKind::Started).count();
    assert_eq!(begun, expected.len(), "each has one beginning");
}

#[test]
fn a_closure_or_poll_that_does_not_return_panicked() {
    let events = captured(|| {
        let sync = std::panic::catch_unwind(|| gemba::attempt!("panic.sync").run(|| -> () { panic!("on purpose") }));
        assert!(sync.is_err());
        let task = std::panic::catch_unwind(|| {
            finish(gemba::attempt!("panic.async").run_async(async {
                Later::default().await;
                assert!(std::hint::black_box(false), "on purpose");
            }));
        });
        assert!(task.is_err());
    });
    let expected =
        [("panic.sync", Outcome::Panicked, false, "", "panic"), ("panic.async", Outcome::Panicked, false, "", "panic")];
    assert_eq!(endings(&events), expected);
}

#[test]
fn a_future_dropped_between_polls_is_cancelled_even_while_a_sibling_panics() {
    let events = captured(|| {
        let mut left = Box::pin(gemba::attempt!("drop.left").run_async(Later::default()));
        assert!(poll_once(left.as_mut()).is_pending());
        drop(left);
        let sibling = std::panic::catch_unwind(|| {
            let mut bystander = Box::pin(gemba::attempt!("drop.sibling").run_async(Later::default()));
            assert!(poll_once(bystander.as_mut()).is_pending());
            panic!("on purpose");
        });
        assert!(sibling.is_err());
        drop(gemba::attempt!("drop.unpolled").run_async(Later::default()));
    });
    let expected = [
        ("drop.left", Outcome::Cancelled, false, "", ""),
        ("drop.sibling", Outcome::Cancelled, false, "", ""),
        ("drop.unpolled", Outcome::Cancelled, false, "", ""),
    ];
    assert_eq!(endings(&events), expected);
}

#[test]
fn what_runs_inside_an_attempt_knows_it_and_keeps_the_identity() {
    let events = captured(|| {
        gemba::scope().user("u").run(|| {
            gemba::attempt!("nest.outer").run(|| {
                gemba::feature!("nest.used");
                gemba::attempt!("nest.inner").run(|| gemba::step!(Checkout::Cart));
            });
        });
    });
    assert!(events.iter().all(|event| event.user == "u"), "{events:?}");
    let attempt = |name: &str, kind: EventKind| {
        events.iter().find(|event| event.name == name && event.kind == kind).unwrap().attempt
    };
    assert_eq!(attempt("nest.used", EventKind::Used), attempt("nest.outer", EventKind::Started));
    assert_eq!(attempt("checkout.cart", EventKind::Step), attempt("nest.inner", EventKind::Started));
    assert_ne!(attempt("nest.inner", EventKind::Started), attempt("nest.outer", EventKind::Started));
}

/// More threads than there are rings without a test that captures.
#[test]
#[cfg_attr(miri, ignore = "a hundred threads and no unsafe code of their own")]
fn a_capture_has_what_every_thread_recorded_however_many_there_are() {
    const THREADS: usize = 100;
    let events = captured(|| {
        // Both ends of each attempt on a thread of its own; none ends before all have recorded.
        let guards: Vec<_> = (0..THREADS).map(|_| gemba::attempt!("crowd.guard")).collect();
        let all = std::sync::Arc::new(std::sync::Barrier::new(THREADS));
        let threads: Vec<_> = guards
            .into_iter()
            .map(|guard| {
                let all = std::sync::Arc::clone(&all);
                std::thread::spawn(move || {
                    guard.complete();
                    all.wait();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(endings(&events).len(), THREADS);
}

#[test]
fn a_guard_moved_to_another_thread_belongs_to_where_it_began() {
    let events = captured(|| {
        let guard = gemba::scope().user("u").run(|| gemba::attempt!("move.guard"));
        std::thread::spawn(move || guard.complete()).join().unwrap();
    });
    assert_eq!(endings(&events), [("move.guard", Outcome::Completed, false, "", "")]);
    assert!(events.iter().all(|event| event.user == "u"));
}

#[test]
#[cfg_attr(miri, ignore = "the list of call sites is made by the linker, which miri has not")]
fn a_ticket_resumes_the_same_attempt() {
    let events = captured(|| {
        let text = gemba::attempt!("ticket.checkout", n = 1).detach().to_string();
        let ticket: gemba::Ticket = text.parse().unwrap();
        gemba::Attempt::resume(&ticket).unwrap().complete();
        let foreign: gemba::Ticket = "1-0000000000000007-0000000000000001-not.declared.here".parse().unwrap();
        gemba::Attempt::resume(&foreign).unwrap().abandon();
    });
    assert_eq!(events[0].attempt, events[1].attempt);
    assert_eq!((events[1].kind, events[1].outcome), (EventKind::Ended, Some(Outcome::Completed)));
    assert_eq!((events[2].name.as_str(), events[2].attempt), ("not.declared.here", 7));
    for wrong in ["", "1-2-3", "2-0-0-a", "1-x-0-a", "1-0-0-A b"] {
        assert_eq!(wrong.parse::<gemba::Ticket>(), Err(gemba::TicketError::Malformed), "{wrong}");
    }
}

#[gemba::instrument("instrument.parse", length = text.len())]
fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
    let number: u32 = text.parse()?;
    if number == 0 {
        return Ok(1);
    }
    Ok(number)
}

#[gemba::instrument("instrument.plain")]
async fn plain(number: u32) -> u32 {
    Later::default().await;
    if number == 0 {
        return 1;
    }
    number
}

struct Mailer {
    sent: u32,
}

impl Mailer {
    #[gemba::instrument("instrument.method", to = to)]
    async fn send(&mut self, to: &str) -> Result<(), std::fmt::Error> {
        Later::default().await;
        self.sent += u32::from(!to.is_empty());
        if to.is_empty() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

#[test]
fn an_instrumented_function_is_an_attempt() {
    let events = captured(|| {
        assert_eq!(parse("12"), Ok(12));
        assert!(parse("x").is_err());
        assert_eq!(finish(plain(0)), 1);
        let mut mailer = Mailer { sent: 0 };
        assert!(finish(mailer.send("")).is_err());
        assert!(finish(mailer.send("a@b")).is_ok());
        drop(mailer.send("gone"));
        let mut gone = Box::pin(mailer.send("gone"));
        assert!(poll_once(gone.as_mut()).is_pending());
        drop(gone);
    });
    let error = std::any::type_name::<std::fmt::Error>();
    let expected = [
        ("instrument.parse", Outcome::Completed, false, "", ""),
        ("instrument.parse", Outcome::Failed, false, "", std::any::type_name::<std::num::ParseIntError>()),
        ("instrument.plain", Outcome::Completed, false, "", ""),
        ("instrument.method", Outcome::Failed, false, "", error),
        ("instrument.method", Outcome::Completed, false, "", ""),
        ("instrument.method", Outcome::Cancelled, false, "", ""),
    ];
    assert_eq!(endings(&events), expected);
    assert_eq!(events[0].attribute("length"), Some(&Attribute::Unsigned(2)));
}

#[test]
fn identity_and_properties_are_events_of_their_own() {
    let events = captured(|| {
        gemba::identify("u-7", gemba::Known::Session("secret"));
        gemba::identify("u-7", gemba::Known::Anonymous("device-1"));
        gemba::user_set!("u-7", plan = "pro", seats = 3);
        gemba::tenant_set!("acme", plan = "enterprise");
    });
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["gemba.identify", "gemba.identify", "gemba.user.set", "gemba.tenant.set"]);
    assert!(!events[0].session.is_empty() && events[0].session != "secret");
    assert_eq!(events[1].attribute("gemba.anonymous.id"), Some(&Attribute::Text("device-1".into())));
    assert_eq!((events[2].user.as_str(), events[3].tenant.as_str()), ("u-7", "acme"));
}

/// Bytes of a record besides its text: header, type and length of the text, type and value of the number.
const RECORD_BYTES: usize = 24 + 5 + 9;
/// Records in a run of the model, at most.
const MOST: usize = if cfg!(miri) { 8 } else { 60 };

proptest::proptest! {
    /// The model: every record comes out once, unchanged and in order, save those beyond half a ring (64 KiB).
    #[test]
    fn records_of_any_length_come_out_as_they_went_in(lengths in proptest::collection::vec(0_usize..40_000, 1..MOST)) {
        let text: String = ('a'..='z').cycle().take(40_000).collect();
        let events = captured(|| {
            for (number, length) in lengths.iter().enumerate() {
                gemba::feature!("model.used", text = &text[..*length], number = number);
            }
        });
        let kept = lengths.iter().enumerate().filter(|(_, length)| *length + RECORD_BYTES <= 32 * 1024);
        let expected: Vec<_> = kept
            .map(|(number, length)| {
                vec![("text", Attribute::Text(text[..*length].into())), ("number", Attribute::Unsigned(number as u64))]
            })
            .collect();
        let seen: Vec<_> = events.into_iter().map(|event| event.attributes).collect();
        proptest::prop_assert_eq!(seen, expected);
    }
}
