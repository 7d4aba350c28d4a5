//! The lock-free parts of the SDK, run through every interleaving their memory orders allow (loom).
//!
//! The files are the SDK's own, included by path, so what is proved is what runs. loom sees the atomics, and through
//! `Ring::touched` every byte of the buffer: two threads at one byte without an order between them fail the model.

#![cfg(test)]
#![allow(dead_code, reason = "the models use the parts they are about")]

mod context;
mod counts;
mod handed;
mod pipeline;
mod ring;
mod seen;
mod slots;
