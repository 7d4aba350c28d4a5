//! One line to start, one macro a feature.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Endpoint and key come from GEMBA_ENDPOINT and GEMBA_KEY. The guard delivers what is left when it is dropped.
    let _gemba = gemba::init!("quickstart")?;

    // Everything below the scope belongs to this person and session; session ids are hashed before they leave.
    gemba::scope().user("ann").session("session-1").run(|| {
        gemba::feature!("search.filter", kind = "price", hits = 12);

        // Ok is completed, Err is failed, a panic is panicked.
        let parsed = gemba::attempt!("import.parse").run(|| "42".parse::<u32>());
        assert_eq!(parsed, Ok(42));
    });
    Ok(())
}
