//! The core's parts for use alone: each a thin class that any thread may call.

mod balancer;
mod blocks;
mod breaker;
mod calls;
mod causes;
mod classifier;
mod clock;
mod counts;
mod deadline;
mod guard;
mod known_blocks;
mod limiter;
mod now;
mod permit;
mod random;
mod result;
mod retry;
mod routes;
mod surely;
mod tally;
mod watch;
mod words;

pub(crate) use balancer::{Attempt, BalancerCore};
pub(crate) use breaker::BreakerCore;
pub(crate) use deadline::DeadlineCore;
pub(crate) use guard::GuardCore;
pub(crate) use limiter::{BucketCore, Charge, ClientsCore};
pub(crate) use permit::Permit;
pub(crate) use random::reseed;
pub(crate) use retry::{BudgetCore, RetryCall, RetryCore, retry_after_ns};
pub(crate) use routes::{FoundRoute, RoutesCore};
pub(crate) use surely::{Finally, surely_called};
pub(crate) use watch::{emit_all, name_of};
pub(crate) use words::{SharedWords, Words};

use meshcore_core::admission::{Quota, QuotaError};
use meshcore_core::snapshot::Rate;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn quota(tokens: u64, period_ns: u64, burst: u64) -> PyResult<Quota> {
    Quota::new(Rate { tokens, period_ns, burst })
        .map_err(|e: QuotaError| PyValueError::new_err(e.to_string()))
}
