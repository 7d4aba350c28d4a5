//! Funnels as enums: a step is a variant, so an undeclared step does not compile.

use crate::callsite::StepDeclaration;

/// A funnel declared with [`funnel!`](crate::funnel); implemented by that macro only.
///
/// ```
/// gemba::funnel! { enum Setup = "setup" { Account = "account", Team = "team" } }
/// # fn main() {
/// assert_eq!(<Setup as gemba::Funnel>::NAME, "setup");
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a funnel",
    label = "expected a step of a funnel",
    note = "declare it with `gemba::funnel! {{ pub enum Checkout = \"checkout\" {{ Cart = \"cart\", Payment = \"payment\" }} }}`"
)]
pub trait Funnel: Copy {
    /// The funnel's name on the wire.
    const NAME: &'static str;

    /// The declaration of this step.
    fn declaration(self) -> &'static StepDeclaration;
}
