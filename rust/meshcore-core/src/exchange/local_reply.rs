//! The response that a local answer becomes: fields and body, ready for a codec.

use super::answer::Answer;
use super::max_forwards::reflection;
use super::stack::{RouteStack, Target};
use crate::error::Reason;
use crate::head::RequestHead;

/// A response made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// The status.
    pub status: u16,
    /// Fields beside `content-length`, `date` and `connection`, which the codec adds.
    pub fields: Vec<(String, String)>,
    /// The body; a HEAD request gets its length only.
    pub body: Vec<u8>,
}

impl LocalReply {
    /// The response to an answer of the core: problem details (RFC 9457) with the stable reason,
    /// or what the route says for redirects and direct responses.
    #[must_use]
    pub fn new(answer: &Answer, route: Option<&RouteStack>, head: Option<&RequestHead>) -> Self {
        match (answer.reason, route.map(|r| &r.target)) {
            (Reason::Redirect, Some(Target::Redirect { to, .. })) => {
                let mut location = Vec::with_capacity(128);
                if let Some(head) = head {
                    to.location(head, &mut location);
                }
                let location = String::from_utf8_lossy(&location).into_owned();
                let fields = vec![("location".to_owned(), location)];
                Self { status: answer.status, fields, body: Vec::new() }
            }
            (Reason::DirectResponse, Some(Target::Respond { body, content_type, .. })) => {
                let kind = if content_type.is_empty() {
                    "text/plain; charset=utf-8"
                } else {
                    content_type
                };
                let fields = vec![("content-type".to_owned(), kind.to_owned())];
                Self { status: answer.status, fields, body: body.clone().into_bytes() }
            }
            (Reason::MaxForwards, _) => last_recipient(answer, route, head),
            (Reason::MethodNotAllowed, _) => {
                let mut reply = problem(answer, None);
                reply.fields.push(allowed(route));
                reply
            }
            _ => problem(answer, None),
        }
    }

    /// The same of what is no request, whose body says more: a text of ours, without quotes and
    /// backslashes.
    #[must_use]
    pub fn with_detail(answer: &Answer, detail: &str) -> Self {
        problem(answer, Some(detail))
    }
}

/// What every route takes that names no methods, but for what needs its leave.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The value of `allow` for a route with these methods (RFC 9110 §10.2.1).
pub(super) fn allow(methods: &[String], connect: bool) -> String {
    if methods.is_empty() {
        return METHODS.to_owned() + if connect { ", CONNECT" } else { "" };
    }
    let listed = methods.iter().map(String::as_str).filter(|m| connect || *m != "CONNECT");
    listed.collect::<Vec<_>>().join(", ")
}

fn allowed(route: Option<&RouteStack>) -> (String, String) {
    ("allow".to_owned(), route.map_or(METHODS, |route| &route.allow).to_owned())
}

/// The answer to an OPTIONS or TRACE whose last recipient we are (RFC 9110 §9.3.7, §9.3.8).
fn last_recipient(
    answer: &Answer,
    route: Option<&RouteStack>,
    head: Option<&RequestHead>,
) -> LocalReply {
    let code = answer.reason.code().to_owned();
    let mut fields = vec![("x-mesh-reason".to_owned(), code)];
    let mut body = Vec::new();
    match head.filter(|head| head.slice(head.method) == b"TRACE") {
        Some(head) => {
            fields.push(("content-type".to_owned(), "message/http".to_owned()));
            body = reflection(head);
        }
        None => fields.push(allowed(route)),
    }
    LocalReply { status: answer.status, fields, body }
}

fn problem(answer: &Answer, detail: Option<&str>) -> LocalReply {
    let code = answer.reason.code();
    let mut fields = vec![
        ("content-type".to_owned(), "application/problem+json".to_owned()),
        ("x-mesh-reason".to_owned(), code.to_owned()),
    ];
    if let Some(wait) = answer.retry_after {
        fields.push(("retry-after".to_owned(), wait.secs_ceil().max(1).to_string()));
    }
    if let Some(state) = answer.limit {
        fields.push(("ratelimit-limit".to_owned(), state.limit.to_string()));
        fields.push(("ratelimit-remaining".to_owned(), "0".to_owned()));
        fields.push(("ratelimit-reset".to_owned(), state.reset_after.secs_ceil().to_string()));
    }
    // All texts are ours, so nothing in the body needs escaping.
    let title = code.replace('_', " ");
    let mut body =
        format!("{{\"title\":\"{title}\",\"status\":{},\"reason\":\"{code}\"", answer.status);
    if let Some(detail) = detail {
        body += &format!(",\"detail\":\"{detail}\"");
    }
    if let Some(rule) = answer.rule {
        body += &format!(",\"detail\":\"{}\"", rule.text());
        if let Some(key) = rule.key() {
            body += &format!(",\"key\":\"{key}\"");
        }
    }
    body += "}\n";
    LocalReply { status: answer.status, fields, body: body.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::LimitState;
    use crate::path::PathError;
    use crate::time::Nanos;

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let answer = Answer {
            retry_after: Some(Nanos(1_200_000_000)),
            limit: Some(LimitState { limit: 5, reset_after: Nanos(1_200_000_000) }),
            ..Reason::RateLimited.into()
        };
        let reply = LocalReply::new(&answer, None, None);
        assert_eq!(reply.status, 429);
        let get = |n: &str| reply.fields.iter().find(|(k, _)| k == n).map(|(_, v)| v.as_str());
        assert_eq!(get("retry-after"), Some("2"));
        assert_eq!(get("ratelimit-limit"), Some("5"));
        assert_eq!(get("x-mesh-reason"), Some("rate_limited"));
        assert_eq!(
            reply.body,
            b"{\"title\":\"rate limited\",\"status\":429,\"reason\":\"rate_limited\"}\n"
        );
    }

    #[test]
    fn a_refused_target_is_told_its_rule_and_the_key() {
        let body = |rule: PathError| {
            let body = LocalReply::new(&rule.into(), None, None).body;
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()
        };
        for rule in PathError::ALL {
            let told = body(rule);
            assert_eq!(told["reason"], "bad_request");
            assert_eq!(told["detail"], rule.text());
            assert_eq!(told.get("key").and_then(|key| key.as_str()), rule.key());
        }
    }
}
