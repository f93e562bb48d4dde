//! `meshcore._core`: unpack, call the core, map the error. Nothing is decided here.

use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

mod access_line;
mod answer;
mod bodies;
mod cause;
mod chunk;
mod client_codec;
mod clock;
mod deadlines;
mod descriptor;
mod engine;
mod errors;
mod free_pages;
mod h2_client_codec;
mod h2_codec;
mod h2_heads;
mod h2_order;
mod h2_server_codec;
mod inbox;
mod library;
mod log_lines;
mod message;
mod numbers;
mod outbox;
mod outcome;
mod outgoing;
mod pattern;
mod prepared;
mod relay;
mod request_hooks;
mod secure_transport;
mod segment;
mod server_codec;
mod socket_transport;
mod ticket;
mod tls;
mod tls_scratch;
mod tls_told;
mod trace;
mod whole;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of meshcore.
#[pymodule(gil_used = true)]
mod _core {
    use super::*;

    #[pymodule_export]
    use crate::answer::Answer;
    #[pymodule_export]
    use crate::cause::Cause;
    #[pymodule_export]
    use crate::chunk::Chunk;
    #[pymodule_export]
    use crate::client_codec::ClientCodec;
    #[pymodule_export]
    use crate::clock::now_ns;
    #[pymodule_export]
    use crate::deadlines::{DeadlineTable, IdleTime};
    #[pymodule_export]
    use crate::engine::{Engine, ListenerStack, Peer};
    #[pymodule_export]
    use crate::free_pages::give_back_pages;
    #[pymodule_export]
    use crate::h2_client_codec::H2ClientCodec;
    #[pymodule_export]
    use crate::h2_codec::{H2Config, Reset};
    #[pymodule_export]
    use crate::h2_heads::{body_of, h2_add_body, h2_check_list, h2_check_trailers, has_body};
    #[pymodule_export]
    use crate::h2_heads::{h2_about, what_came_instead};
    #[pymodule_export]
    use crate::h2_heads::{h2_list_bytes, h2_read_body};
    #[pymodule_export]
    use crate::h2_heads::{h2_read_request, h2_read_response, h2_write_reply};
    #[pymodule_export]
    use crate::h2_heads::{h2_write_informational, h2_write_request};
    #[pymodule_export]
    use crate::h2_heads::{h2_write_response, h2_write_trailers};
    #[pymodule_export]
    use crate::h2_order::{H2Meter, H2Schedule, h2_priority};
    #[pymodule_export]
    use crate::h2_server_codec::{H2Begun, H2ServerCodec};
    #[pymodule_export]
    use crate::inbox::Inbox;
    #[pymodule_export]
    use crate::library::{Attempt, BalancerCore};
    #[pymodule_export]
    use crate::library::{BreakerCore, BucketCore, Charge, ClientsCore, Permit};
    #[pymodule_export]
    use crate::library::{BudgetCore, RetryCall, RetryCore, emit_all, retry_after_ns};
    #[pymodule_export]
    use crate::library::{DeadlineCore, Finally, GuardCore, surely_called};
    #[pymodule_export]
    use crate::library::{FoundRoute, RoutesCore};
    #[pymodule_export]
    use crate::library::{SharedWords, Words};
    #[pymodule_export]
    use crate::log_lines::LogLines;
    #[pymodule_export]
    use crate::message::{Body, Request, Response};
    #[pymodule_export]
    use crate::outbox::Outbox;
    #[pymodule_export]
    use crate::outcome::Outcome;
    #[pymodule_export]
    use crate::pattern::{check_path, check_regex, is_codecs_own, unseen_field};
    #[pymodule_export]
    use crate::prepared::Prepared;
    #[pymodule_export]
    use crate::request_hooks::RequestHooks;
    #[pymodule_export]
    use crate::secure_transport::SecureTransport;
    #[pymodule_export]
    use crate::segment::{Segment, WorkerSlot};
    #[pymodule_export]
    use crate::server_codec::{CodecLimits, ServerCodec};
    #[pymodule_export]
    use crate::socket_transport::has_written_all;
    #[pymodule_export]
    use crate::ticket::Ticket;
    #[pymodule_export]
    use crate::tls::{
        ClientRules, KeyLog, TicketRing, TlsClient, TlsServer, TlsTrust, check_tls_name,
        is_tls_name, is_trust_domain, tls_is_for_host, tls_lists_fault, tls_pair_fault,
        tls_roots_fault, tls_staple, tls_system_roots,
    };
    #[pymodule_export]
    use crate::tls_told::{
        TlsFacts, TlsList, TlsUnlisted, tls_facts, tls_is_late, tls_listing, tls_lists,
    };
    #[pymodule_export]
    use crate::trace::Trace;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::numbers::add(m)?;
        let at_fork = [("after_in_child", wrap_pyfunction!(crate::library::reseed, m)?)];
        let os = m.py().import("os")?;
        os.call_method("register_at_fork", (), Some(&at_fork.into_py_dict(m.py())?))?;
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
