//! What the claims in `it/` share: a server of their own, clients, data.
