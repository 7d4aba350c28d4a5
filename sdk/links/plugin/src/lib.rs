//! A library that is opened while the program runs. It holds a copy of the SDK of its own, which nobody has started.

/// Records in the library's own copy; whether that recorded anything.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_record() -> bool {
    gemba::feature!("plugin.used");
    gemba::stats().recorded > 0 || gemba::flush(std::time::Duration::ZERO).is_ok()
}

/// Call sites that the library's own copy knows.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_callsites() -> usize {
    gemba::__private::CALLSITES.len()
}
