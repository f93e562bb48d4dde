//! Which endpoint serves the next attempt.
