//! A result that does not say how the attempt ended.

fn main() {
    gemba::attempt!("report.export").run(|| 42);
}
