//! otlp: to be written.
