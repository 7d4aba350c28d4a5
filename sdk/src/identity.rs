//! Who somebody turned out to be, and what is known about users and tenants.
//!
//! In: ids and properties from the application. Out: records of their own kinds. Rare calls: they may allocate.

use crate::callsite::{Callsite, IDENTIFY};
use crate::context::Part;
use crate::local::{self, RecordKind};
use crate::value::Values;
use crate::{clock, event, privacy};
use std::fmt;

/// What somebody was known by before signing in.
///
/// ```
/// gemba::identify("u-7", gemba::Known::Anonymous("device-1"));
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// The session that is now the user's. Hashed like every session.
    Session(&'a str),
    /// An anonymous id, of a device or a cookie.
    Anonymous(&'a str),
}

/// Records that the session or anonymous id belongs to `user`. It counts for events recorded before too: who filled the
/// cart anonymously, signed in and paid is one person. Never blocks.
///
/// ```
/// gemba::identify("u-7", gemba::Known::Session("s-1"));
/// ```
pub fn identify(user: impl fmt::Display, known: Known<'_>) {
    let Some(state) = event::recording() else { return };
    let user = text_of(Part::User, &user);
    let (session, anonymous) = match known {
        Known::Session(id) => (text_of(Part::Session, &id), String::new()),
        Known::Anonymous(id) => (String::new(), text_of(Part::User, &id)),
    };
    local::write(RecordKind::Identify, &IDENTIFY, clock::read(state), None, &(user, session, anonymous));
}

/// Records properties of a user; used by `user_set!`.
pub fn user_set(state: u8, callsite: &'static Callsite, user: &dyn fmt::Display, values: &impl Values) {
    let user = text_of(Part::User, user);
    local::write(RecordKind::UserSet, callsite, clock::read(state), None, &(user, values));
}

/// Records properties of a tenant; used by `tenant_set!`.
pub fn tenant_set(state: u8, callsite: &'static Callsite, tenant: &dyn fmt::Display, values: &impl Values) {
    let tenant = text_of(Part::Tenant, tenant);
    local::write(RecordKind::TenantSet, callsite, clock::read(state), None, &(tenant, values));
}

fn text_of(part: Part, id: &dyn fmt::Display) -> String {
    let mut text = String::new();
    privacy::write_id(part, id, &mut text);
    text
}
