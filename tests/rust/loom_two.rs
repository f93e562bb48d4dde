//! Two threads on one object, for loom's models.

use loom::sync::Arc;
use loom::thread;

/// Runs `one` in two threads and in none, and gives the two results.
pub(crate) fn two<S, T>(shared: &Arc<S>, one: fn(&S) -> T) -> [T; 2]
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let other = Arc::clone(shared);
    let running = thread::spawn(move || one(&other));
    let mine = one(shared);
    [mine, running.join().unwrap()]
}
