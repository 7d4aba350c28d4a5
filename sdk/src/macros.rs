//! The macros: each makes one static call site, checks names and values at compile time, and calls `event`.
//!
//! Values are evaluated only while something is recorded.

/// Starts recording: `init!("shop")?` gives the [`Guard`](crate::Guard) that flushes when it is dropped.
///
/// The argument is the service's name; the release is the version of the calling crate unless `GEMBA_RELEASE` says
/// otherwise. For more settings see [`Config`](crate::Config).
///
/// ```no_run
/// fn main() -> Result<(), gemba::InitError> {
///     let _gemba = gemba::init!("shop")?;
///     gemba::feature!("search.filter", kind = "price");
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! init {
    ($service:expr $(,)?) => {
        $crate::Config::new($service).default_release(::core::env!("CARGO_PKG_VERSION")).start()
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "off"))]
macro_rules! __callsite {
    ($kind:ident, $name:expr, $was:expr, [$($key:expr),*]) => {
        const _: () = ::core::assert!(
            !$crate::__private::has_repeated(&[$($key),*]),
            "the same attribute is given twice: each key of a record has one value"
        );
        static __GEMBA_CALLSITE: $crate::__private::Callsite = $crate::__private::Callsite::new(
            $crate::__private::CallsiteKind::$kind,
            $name,
            $was,
            &[$($crate::__private::key($key)),*],
            (::core::file!(), ::core::line!()),
        );
        #[$crate::__private::linkme::distributed_slice($crate::__private::CALLSITES)]
        #[linkme(crate = $crate::__private::linkme)]
        static __GEMBA_REGISTERED: &$crate::__private::Callsite = &__GEMBA_CALLSITE;
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(feature = "off")]
macro_rules! __callsite {
    ($kind:ident, $name:expr, $was:expr, [$($key:expr),*]) => {
        const _: () = ::core::assert!(
            !$crate::__private::has_repeated(&[$($crate::__private::key($key)),*]),
            "the same attribute is given twice: each key of a record has one value"
        );
        static __GEMBA_CALLSITE: $crate::__private::Callsite = $crate::__private::Callsite::new(
            $crate::__private::CallsiteKind::$kind,
            $name,
            $was,
            &[$($crate::__private::key($key)),*],
            (::core::file!(), ::core::line!()),
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __check_name {
    ($name:expr) => {
        const _: () = ::core::assert!(
            $crate::__private::is_valid_name($name),
            "the name of a feature, funnel or step is lower-case words joined by dots, such as `search.filter`: \
             [a-z0-9_]+(\\.[a-z0-9_]+)*, at most 128 bytes"
        );
    };
}

/// Records that a feature was used once.
///
/// The name is checked at compile time. Attributes are `key = value`, at most 16; a value is an integer, float, bool,
/// text, duration, or an option of one, whose `None` leaves the key out. A key may be dotted. After a rename,
/// `was = "old.name"` directly behind the name joins the old records to the new name; it is checked likewise.
///
/// ```
/// let chosen: Option<&str> = None;
/// gemba::feature!("search.filter", kind = "price", n = 3, cart.id = 7_u64, r#type = chosen);
/// gemba::feature!("search.facet", was = "search.filter");
/// ```
#[macro_export]
macro_rules! feature {
    ($name:literal, was = $was:literal $(, $($key:ident).+ = $value:expr)* $(,)?) => {
        $crate::__feature!($name, $crate::__was!($was), [$($($key).+ = $value),*])
    };
    ($name:literal $(, $($key:ident).+ = $value:expr)* $(,)?) => {
        $crate::__feature!($name, ::core::option::Option::None, [$($($key).+ = $value),*])
    };
    ($($other:tt)*) => {
        ::core::compile_error!("expected a literal name and attributes: feature!(\"search.filter\", kind = \"price\")")
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __feature {
    ($name:literal, $was:expr, [$($first:ident $(. $rest:ident)* = $value:expr),*]) => {{
        $crate::__check_name!($name);
        $crate::__callsite!(
            Feature, $name, $was, [$(::core::concat!(::core::stringify!($first) $(, ".", ::core::stringify!($rest))*)),*]
        );
        if let ::core::option::Option::Some(state) = $crate::__private::recording() {
            $crate::__private::used(state, &__GEMBA_CALLSITE, &($($crate::__private::value(&$value),)*));
        }
    }};
}

/// Begins an attempt at a feature and gives its guard, an [`Attempt`](crate::Attempt).
///
/// Takes the same arguments as [`feature!`].
///
/// ```
/// let report = gemba::attempt!("report.export", rows = 12).run(|| std::fs::read("/proc/version"));
/// # drop(report);
/// ```
#[macro_export]
macro_rules! attempt {
    ($name:literal, was = $was:literal $(, $($key:ident).+ = $value:expr)* $(,)?) => {
        $crate::__attempt!($name, $crate::__was!($was), [$($($key).+ = $value),*])
    };
    ($name:literal $(, $($key:ident).+ = $value:expr)* $(,)?) => {
        $crate::__attempt!($name, ::core::option::Option::None, [$($($key).+ = $value),*])
    };
    ($($other:tt)*) => {
        ::core::compile_error!("expected a literal name and attributes: attempt!(\"report.export\", rows = n)")
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __attempt {
    ($name:literal, $was:expr, [$($first:ident $(. $rest:ident)* = $value:expr),*]) => {{
        $crate::__check_name!($name);
        $crate::__callsite!(
            Attempt, $name, $was, [$(::core::concat!(::core::stringify!($first) $(, ".", ::core::stringify!($rest))*)),*]
        );
        match $crate::__private::recording() {
            ::core::option::Option::Some(state) => {
                $crate::__private::begin(state, &__GEMBA_CALLSITE, &($($crate::__private::value(&$value),)*))
            }
            ::core::option::Option::None => $crate::__private::inert(&__GEMBA_CALLSITE),
        }
    }};
}

/// Declares a funnel: an enum whose variants are its steps, in order.
///
/// Names, old ones too, are checked at compile time. `(was = "old")` behind a step keeps the records of its old name. The enum is
/// `Debug`, `Clone`, `Copy`, `PartialEq`, `Eq` and `Hash`, and may be used from other crates.
///
/// ```
/// gemba::funnel! {
///     /// From the cart to the money.
///     pub enum Checkout = "checkout" {
///         Cart = "cart",
///         Address = "address" (was = "shipping"),
///         Payment = "payment",
///     }
/// }
/// # fn main() {
/// gemba::step!(Checkout::Payment, plan = "pro");
/// # }
/// ```
#[macro_export]
macro_rules! funnel {
    (
        $(#[$meta:meta])*
        $vis:vis enum $funnel:ident = $name:literal {
            $($(#[$step_meta:meta])* $step:ident = $step_name:literal $((was = $was:literal))?),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names of funnel and steps say what they are")]
        $vis enum $funnel { $($(#[$step_meta])* $step),+ }

        const _: () = {
            $crate::__check_name!($name);
            $($crate::__check_name!($step_name);)+
            ::core::assert!(
                !$crate::__private::has_repeated(&[$($step_name),+]),
                "two steps of a funnel have the same name"
            );
            static STEPS: &[$crate::__private::StepDeclaration] = &[$(
                $crate::__private::StepDeclaration::new(
                    ($name, $step_name),
                    $crate::__was!($($was)?),
                    $funnel::$step as u32,
                    (::core::file!(), ::core::line!()),
                )
            ),+];
            $crate::__declare_funnel!(STEPS);
            impl $crate::Funnel for $funnel {
                const NAME: &'static str = $name;

                fn declaration(self) -> &'static $crate::__private::StepDeclaration {
                    &STEPS[self as usize]
                }
            }
        };
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "expected an enum with names: funnel! { pub enum Checkout = \"checkout\" { Cart = \"cart\", Payment = \"payment\" } }"
        );
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "off"))]
macro_rules! __declare_funnel {
    ($steps:ident) => {
        #[$crate::__private::linkme::distributed_slice($crate::__private::FUNNELS)]
        #[linkme(crate = $crate::__private::linkme)]
        static REGISTERED: &[$crate::__private::StepDeclaration] = $steps;
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(feature = "off")]
macro_rules! __declare_funnel {
    ($steps:ident) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __was {
    () => {
        ::core::option::Option::None
    };
    ($was:literal) => {{
        // What was never a name joins nothing to the new one.
        $crate::__check_name!($was);
        ::core::option::Option::Some($was)
    }};
}

/// Records that a step of a funnel was reached. The first argument is any expression of a [`funnel!`] enum.
///
/// Queries that run later in the same scope know the step.
///
/// ```
/// gemba::funnel! { enum Setup = "setup" { Account = "account", Team = "team" } }
/// # fn main() {
/// let reached = Setup::Team;
/// gemba::step!(reached, members = 4);
/// # }
/// ```
#[macro_export]
macro_rules! step {
    ($step:expr $(, $($key:ident).+ = $value:expr)* $(,)?) => {
        $crate::__step!($step, [$($($key).+ = $value),*])
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __step {
    ($step:expr, [$($first:ident $(. $rest:ident)* = $value:expr),*]) => {{
        $crate::__callsite!(
            Step, "", ::core::option::Option::None,
            [$(::core::concat!(::core::stringify!($first) $(, ".", ::core::stringify!($rest))*)),*]
        );
        let declaration = $crate::Funnel::declaration($step);
        if let ::core::option::Option::Some(state) = $crate::__private::recording() {
            $crate::__private::reached(
                state, &__GEMBA_CALLSITE, declaration, &($($crate::__private::value(&$value),)*)
            );
        }
    }};
}

/// Records that a feature flag was evaluated: who saw which variant, as OpenTelemetry's event `feature_flag.evaluation`.
///
/// It is the exposure of an experiment: the person of the [scope](crate::scope()) around it saw this variant, and the question
/// `experiment_results` tells whether those who did reach a goal more often. So it belongs where the variant comes to matter,
/// not where flags are loaded. Only the user or session of the scope is exposed: the flag's `context` is not read as a person.
///
/// An evaluation is an event with a name, of kind `event`. So wherever a question is about any event (who was active, who came
/// back, what came between two steps of a strict funnel) it counts as something this person did.
///
/// The key is that of the flag's provider, checked at compile time: at most 256 bytes without control characters and without
/// space at its ends. Behind the variant may stand, in any order and each once, all of them text or an option of one:
///
/// | name | attribute | meaning |
/// |---|---|---|
/// | `reason` | `feature_flag.result.reason` | why: `static`, `default`, `targeting_match`, `split`, `cached`, `disabled`, `unknown`, `stale` or `error` |
/// | `provider` | `feature_flag.provider.name` | who evaluated it |
/// | `context` | `feature_flag.context.id` | for whom it was evaluated, always as the [keyed hash](crate::Config::hash_key) that a session leaves as: it often is one, and so a secret |
/// | `set`, `version` | `feature_flag.set.id`, `feature_flag.version` | which rules |
/// | `error` | `error.type` | kind of the error, never a message |
///
/// A variant that is `None` leaves the record without one; it is no exposure then.
///
/// ```
/// # struct Details { variant: Option<String>, reason: &'static str }
/// # let details = Details { variant: Some("blue".to_owned()), reason: "split" };
/// let events = gemba::testing::captured(|| {
///     gemba::scope().user("u-7").run(|| {
///         gemba::feature_flag!("buy-button", variant = details.variant, reason = details.reason, provider = "flagd");
///         let is_new = true;
///         gemba::feature_flag!("new-checkout", variant = if is_new { "on" } else { "off" });
///     });
/// });
/// assert_eq!((events.len(), events[0].user.as_str()), (2, "u-7"));
/// assert_eq!(events[0].attribute("feature_flag.result.variant"), Some(&gemba::testing::Attribute::Text("blue".into())));
/// ```
#[macro_export]
macro_rules! feature_flag {
    ($key:literal, variant = $variant:expr $(, $name:ident = $value:expr)* $(,)?) => {{
        const _: () = ::core::assert!(
            $crate::__private::is_valid_flag($key),
            "the key of a feature flag is text of 1 to 256 bytes, without control characters and without space at its ends"
        );
        $crate::__callsite!(
            Flag, $key, ::core::option::Option::None,
            [
                $crate::__private::flag_key("variant")
                $(, $crate::__private::flag_key(::core::stringify!($name)))*
            ]
        );
        if let ::core::option::Option::Some(state) = $crate::__private::recording() {
            $crate::__private::evaluated(
                state, &__GEMBA_CALLSITE,
                &($crate::__private::text(&$variant), $($crate::__private::text(&$value),)*)
            );
        }
    }};
    ($($other:tt)*) => {
        ::core::compile_error!(
            "expected a literal key and what it came to: feature_flag!(\"new-checkout\", variant = \"on\", reason = \"split\")"
        )
    };
}

/// Records properties of a user, such as the plan or the day of sign-up: `user_set!(user_id, plan = "pro")`.
///
/// ```
/// gemba::user_set!("u-7", plan = "pro", seats = 3);
/// ```
#[macro_export]
macro_rules! user_set {
    ($user:expr $(, $($key:ident).+ = $value:expr)+ $(,)?) => {
        $crate::__properties!(user_set, $user, [$($($key).+ = $value),+])
    };
    ($($other:tt)*) => {
        ::core::compile_error!("expected a user and properties: user_set!(user_id, plan = \"pro\")")
    };
}

/// Records properties of a tenant: `tenant_set!(tenant_id, plan = "enterprise")`.
///
/// ```
/// gemba::tenant_set!("acme", plan = "enterprise");
/// ```
#[macro_export]
macro_rules! tenant_set {
    ($tenant:expr $(, $($key:ident).+ = $value:expr)+ $(,)?) => {
        $crate::__properties!(tenant_set, $tenant, [$($($key).+ = $value),+])
    };
    ($($other:tt)*) => {
        ::core::compile_error!("expected a tenant and properties: tenant_set!(tenant_id, plan = \"enterprise\")")
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __properties {
    ($set:ident, $id:expr, [$($first:ident $(. $rest:ident)* = $value:expr),*]) => {{
        $crate::__callsite!(
            Identity, "", ::core::option::Option::None,
            [$(::core::concat!(::core::stringify!($first) $(, ".", ::core::stringify!($rest))*)),*]
        );
        if let ::core::option::Option::Some(state) = $crate::__private::recording() {
            $crate::__private::$set(
                state, &__GEMBA_CALLSITE, &$id, &($($crate::__private::value(&$value),)*)
            );
        }
    }};
}
