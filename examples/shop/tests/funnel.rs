//! A funnel of one crate in the code of another: this file is a crate of its own and declares no step.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

use gemba::testing::{Attribute, EventKind, captured};
use gemba_shop::server::Checkout;

#[test]
fn a_step_of_another_crates_funnel_is_recorded_under_its_name_and_declared_once() {
    let events = captured(|| {
        gemba::scope().user("u-7").run(|| gemba::step!(Checkout::Payment, card = "visa"));
        for step in [Checkout::Cart, Checkout::Done] {
            gemba::step!(step);
        }
    });
    let steps: Vec<_> = events.iter().map(|event| (event.kind, event.name.as_str(), event.user.as_str())).collect();
    let expected = [("checkout.payment", "u-7"), ("checkout.cart", ""), ("checkout.done", "")];
    assert_eq!(steps, expected.map(|(name, user)| (EventKind::Step, name, user)));
    assert_eq!(events[0].attribute("card"), Some(&Attribute::Text("visa".into())));
    // The linker takes the declaration from the crate that has it, and no second one from here.
    let declared: Vec<_> = gemba::__private::FUNNELS.iter().copied().flatten().collect();
    let steps: Vec<_> = declared.iter().map(|step| (step.funnel(), step.step())).collect();
    assert_eq!(steps, ["cart", "address", "shipping", "payment", "done"].map(|step| ("checkout", step)));
}
