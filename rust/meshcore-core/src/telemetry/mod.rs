//! Counters and histograms in shared words, and their exposition as text.
//!
//! # Map
//!
//! [`Counters`], [`Gauges`] and [`Histogram`] are views of blocks whose words lie in the columns
//! of the workers: each worker adds on lines of its own, a reader sums all columns. So any worker
//! or control can answer `/metrics` for the whole host, and counting costs one uncontended
//! addition. [`Exposition`] writes families as Prometheus or OpenMetrics text. [`request_id`]
//! makes the id of a request, [`AccessLine`] a line of the access log, and [`trace`] reads and
//! writes contexts of traces.

mod access_line;
mod counters;
mod exposition;
mod histogram;
mod ids;
pub mod trace;

pub use access_line::AccessLine;
pub use counters::{Counters, Gauges};
pub use exposition::{Exposition, Family, Format};
pub use histogram::{Histogram, Reading};
pub use ids::request_id;
