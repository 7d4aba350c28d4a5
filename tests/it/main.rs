//! Claims about the whole product, each on the real engine, over real sockets.
//!
//! One binary, so that the engine's harness is linked once.

mod power_cut;
