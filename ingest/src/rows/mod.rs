//! rows: to be written.
