//! Stands where the SDK has its contexts: the lists of their slots.

#[path = "../../src/context/slots.rs"]
pub(crate) mod slots;
