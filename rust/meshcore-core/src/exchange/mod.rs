//! The hall: the compiled layer stack, request tickets and their attempts.
