//! What is wrong with the shop, chosen by a seed: each plant changes how the shop is *built*, never what is reported.
//!
//! In: a seed. Out: [`Plants`]. A shop without plants ([`Plants::none`]) is the control: nothing about it deserves
//! attention, and Gemba must say so.

use crate::statements;

/// A form that refuses what people naturally type, without saying what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfusingForm {
    /// Checkout, address: the telephone number must be digits only.
    Address,
    /// Checkout, shipping: the slot chosen for the customer is sold out.
    Shipping,
    /// Checkout, payment: the card number must not hold spaces.
    Payment,
    /// Writing a review: at least 120 characters.
    Review,
    /// Editing the profile: the password needs a special character.
    Profile,
}

impl ConfusingForm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Address, Self::Shipping, Self::Payment, Self::Review, Self::Profile];

    /// The name under which the shop records it: a funnel step or a feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "checkout.address",
            Self::Shipping => "checkout.shipping",
            Self::Payment => "checkout.payment",
            Self::Review => "review.write",
            Self::Profile => "profile.edit",
        }
    }
}

/// A list that is read with one query for its head and one more for each of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedQuery {
    /// The cart reads its products one by one.
    CartProducts,
    /// The list of orders reads the lines of each order.
    OrderLines,
    /// The product page reads the author of each review.
    ReviewAuthors,
}

impl RepeatedQuery {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CartProducts, Self::OrderLines, Self::ReviewAuthors];

    /// The feature whose page repeats the query.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::CartProducts => "cart.view",
            Self::OrderLines => "orders.list",
            Self::ReviewAuthors => "product.view",
        }
    }

    /// The statement that is repeated.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::CartProducts => statements::CART_PRODUCT,
            Self::OrderLines => statements::ORDER_LINES,
            Self::ReviewAuthors => statements::REVIEW_AUTHOR,
        }
    }
}

/// A query that is run often and reads a whole table each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotQuery {
    /// Browsing a category reads and sorts all listings.
    CategoryListing,
    /// The account statement adds up the customer's lines, looking through those of all.
    AccountStatement,
    /// The rating of a product is computed from its votes, looking through all votes.
    ProductRating,
}

impl HotQuery {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CategoryListing, Self::AccountStatement, Self::ProductRating];

    /// The statement that costs.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::CategoryListing => statements::LISTING,
            Self::AccountStatement => statements::STATEMENT_OF_LINES,
            Self::ProductRating => statements::RATING_OF_VOTES,
        }
    }
}

/// An index that the schema change of the second release forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostIndex {
    /// `wishes(customer)`.
    Wishes,
    /// `messages(customer)`.
    Messages,
    /// `vouchers(code)`.
    Vouchers,
}

impl LostIndex {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Wishes, Self::Messages, Self::Vouchers];

    /// The statement that misses it.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::Wishes => statements::WISHES,
            Self::Messages => statements::MESSAGES,
            Self::Vouchers => statements::VOUCHER,
        }
    }

    /// The index, as named in the schema.
    pub const fn index(self) -> &'static str {
        match self {
            Self::Wishes => "wishes_customer",
            Self::Messages => "messages_customer",
            Self::Vouchers => "vouchers_code",
        }
    }
}

/// A feature that no page links to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlinkedFeature {
    /// Wrapping a present.
    GiftWrap,
    /// Picking up in a store.
    StorePickup,
    /// Comparing products.
    Compare,
    /// An alert when a price falls.
    PriceAlert,
}

impl UnlinkedFeature {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GiftWrap, Self::StorePickup, Self::Compare, Self::PriceAlert];

    /// Its name as a feature, which is also the name of the link.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GiftWrap => "gift.wrap",
            Self::StorePickup => "store.pickup",
            Self::Compare => "product.compare",
            Self::PriceAlert => "price.alert",
        }
    }
}

/// Everything that is wrong with one shop; `None` where it is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plants {
    /// The form people fail at.
    pub confusing: Option<ConfusingForm>,
    /// The N+1.
    pub repeated: Option<RepeatedQuery>,
    /// The hot query.
    pub hot: Option<HotQuery>,
    /// What got slow in release 2.
    pub regressed: Option<LostIndex>,
    /// What nobody can find.
    pub unlinked: Option<UnlinkedFeature>,
}

impl Plants {
    /// One of each, by seed: equal seeds give equal plants.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            confusing: random.choice(ConfusingForm::ALL),
            repeated: random.choice(RepeatedQuery::ALL),
            hot: random.choice(HotQuery::ALL),
            regressed: random.choice(LostIndex::ALL),
            unlinked: random.choice(UnlinkedFeature::ALL),
        }
    }

    /// A shop as it should be.
    pub fn none() -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_every_plant() {
        let all: Vec<Plants> = (0..200).map(Plants::of_seed).collect();
        for form in ConfusingForm::ALL {
            assert!(all.iter().any(|plants| plants.confusing == Some(form)), "{form:?}");
        }
        for feature in UnlinkedFeature::ALL {
            assert!(all.iter().any(|plants| plants.unlinked == Some(feature)), "{feature:?}");
        }
        assert_eq!(Plants::of_seed(7), Plants::of_seed(7));
    }
}
