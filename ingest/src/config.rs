//! Settings of the server; see `ServeConfig`.
