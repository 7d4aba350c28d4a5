//! The people who use the shop: who they are, when they come, what they came for and when they lose patience.
//!
//! People see pages, not code: they follow the links a page shows, type what people type, and give up after being
//! refused once too often. Nothing here knows about plants.

use fastrand::Rng;

/// What a person came for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Looking around, and perhaps buying.
    Shopping,
    /// Writing about something bought.
    Review,
    /// Changing the own data.
    Profile,
    /// Sending something back.
    Return,
    /// Looking after orders, messages and the wish list.
    Account,
    /// Getting the newsletter.
    Newsletter,
}

/// One person.
#[derive(Debug, Clone)]
pub struct Person {
    /// Number as a customer.
    pub customer: i64,
    /// Whether visits begin signed in; the others sign in at the cart.
    pub stays_signed_in: bool,
    /// How often a refused form is tried again before giving up.
    pub patience: u32,
}

impl Person {
    /// The person with this number; equal seeds give equal people.
    pub fn new(customer: i64, random: &mut Rng) -> Self {
        Self { customer, stays_signed_in: random.f64() < 0.7, patience: random.u32(0..=2) }
    }

    /// What a visit is about. Businesses look after their account more than others.
    pub fn errand(&self, random: &mut Rng) -> Errand {
        let draw = random.f64();
        let account_share = if self.is_business() { 0.6 } else { 0.15 };
        if draw < account_share {
            return Errand::Account;
        }
        match random.f64() {
            x if x < 0.58 => Errand::Shopping,
            x if x < 0.72 => Errand::Review,
            x if x < 0.84 => Errand::Profile,
            x if x < 0.93 => Errand::Return,
            _ => Errand::Newsletter,
        }
    }

    /// Whether this is a business customer.
    pub fn is_business(&self) -> bool {
        self.customer < crate::database::BUSINESS_CUSTOMERS
    }
}

/// A telephone number as people write it.
pub fn phone(random: &mut Rng) -> &'static str {
    if random.f64() < 0.75 { "030+123+4567" } else { "0301234567" }
}

/// A delivery slot: most people keep the one chosen for them.
pub fn slot(random: &mut Rng) -> &'static str {
    if random.f64() < 0.75 { "morning" } else { "evening" }
}

/// A card number as people write it: in groups, as it stands on the card.
pub fn card(random: &mut Rng) -> &'static str {
    if random.f64() < 0.75 { "4111+1111+1111+1111" } else { "4111111111111111" }
}

/// A review: mostly one sentence.
pub fn review(random: &mut Rng) -> String {
    let words = if random.f64() < 0.8 { random.usize(5..18) } else { random.usize(30..60) };
    vec!["good"; words].join("+")
}

/// A password: mostly letters and digits.
pub fn password(random: &mut Rng) -> &'static str {
    if random.f64() < 0.75 { "sunshine42" } else { "sun-shine.42" }
}

/// Seconds between two pages: people read.
pub fn think_seconds(random: &mut Rng) -> u64 {
    5 + random.u64(0..40)
}
