//! A bad name in the attribute.

#[gemba::instrument("invoice send")]
fn send() {}

fn main() {
    send();
}
