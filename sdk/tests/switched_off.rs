//! Without a start nothing is recorded. Its own file: recording is a state of the whole process.

#[test]
fn nothing_is_evaluated_while_nothing_records() {
    let mut evaluated = 0;
    gemba::feature!(
        "off.value",
        n = {
            evaluated += 1;
            1
        }
    );
    let attempt = gemba::attempt!(
        "off.attempt",
        n = {
            evaluated += 1;
            1
        }
    );
    attempt.complete();
    gemba::feature_flag!(
        "off-flag",
        variant = {
            evaluated += 1;
            "on"
        }
    );
    assert_eq!(evaluated, 0);
    assert_eq!(gemba::stats(), gemba::Stats::default());
    assert_eq!(gemba::flush(std::time::Duration::ZERO), Err(gemba::FlushError::Closed));
}
