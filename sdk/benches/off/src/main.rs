//! What is left of the macros when the crate is built with feature `off`: nothing.
//!
//! `sdk/benches/off/check` builds this program and looks at its code: the functions `recorded` hold the instructions of the
//! functions `plain` and no other, and no name of a feature is in the binary.

use std::hint::black_box;

gemba::funnel! {
    enum Checkout = "compiled_out" { Cart = "compiled_out_cart" }
}

mod uses {
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> u64 {
        gemba::feature!("compiled.out.used", n = n, ratio = 0.5, text = "text");
        n.wrapping_mul(3)
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> u64 {
        n.wrapping_mul(5)
    }
}

mod steps {
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> u64 {
        gemba::step!(super::Checkout::Cart, n = n);
        n ^ 3
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> u64 {
        n ^ 5
    }
}

mod flags {
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> u64 {
        gemba::feature_flag!("compiled.out.flag", variant = "text", reason = "split");
        n | 3
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> u64 {
        n | 5
    }
}

mod attempts {
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> u64 {
        gemba::attempt!("compiled.out.attempt", n = n).complete();
        n.wrapping_sub(3)
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> u64 {
        n.wrapping_sub(5)
    }
}

mod runs {
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> u64 {
        gemba::attempt!("compiled.out.run").run(|| Ok::<_, u8>(n.rotate_left(3))).unwrap_or_default()
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> u64 {
        n.rotate_left(5)
    }
}

mod functions {
    #[gemba::instrument("compiled.out.function")]
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> Option<u64> {
        n.checked_mul(3)
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> Option<u64> {
        n.checked_mul(5)
    }
}

mod queries {
    #[inline(never)]
    pub(crate) fn recorded(n: u64) -> u64 {
        gemba::query!("compiled.out.query", Sqlite).run(|| Ok::<_, u8>(n.rotate_right(3))).unwrap_or_default()
    }

    #[inline(never)]
    pub(crate) fn plain(n: u64) -> u64 {
        n.rotate_right(5)
    }
}

fn main() {
    let sums = [uses::recorded, uses::plain, steps::recorded, steps::plain, flags::recorded, flags::plain].map(|of| of(black_box(7)));
    assert_eq!(black_box(sums), [21, 35, 4, 2, 7, 7]);
    let sums = [attempts::recorded, attempts::plain, runs::recorded, runs::plain].map(|of| of(black_box(7)));
    assert_eq!(black_box(sums), [4, 2, 56, 224]);
    let sums = [queries::recorded, queries::plain].map(|of| of(black_box(7)));
    assert_eq!(black_box(sums), [7_u64.rotate_right(3), 7_u64.rotate_right(5)]);
    assert_eq!(black_box([functions::recorded, functions::plain].map(|of| of(black_box(7)))), [Some(21), Some(35)]);
}
