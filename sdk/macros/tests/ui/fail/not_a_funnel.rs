//! An enum that is no funnel.

#[derive(Clone, Copy)]
enum Color {
    Red,
}

fn main() {
    gemba::step!(Color::Red);
}
