//! The header fields and query parameters that the routes of a host ask for: each is read once for
//! a request, and all expressions over it are one automaton, however many routes there are.

use std::borrow::Cow;
use std::cell::RefCell;

use regex::bytes::{RegexSet, SetMatches};
use smallvec::SmallVec;

use super::RequestView;
use super::error::RouteProblem;
use super::query;
use super::regexes::whole_values;

/// Where values are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    /// The name in lower case.
    Header(Box<[u8]>),
    Query(Box<[u8]>),
}

/// All of a host, on their way.
#[derive(Debug, Default)]
pub(super) struct FieldDraft(Vec<(Field, Vec<String>)>);

impl FieldDraft {
    /// The number of a field. O(fields).
    pub(super) fn number(&mut self, field: Field) -> u32 {
        let known = self.0.iter().position(|(other, _)| *other == field);
        let at = known.unwrap_or_else(|| {
            self.0.push((field, Vec::new()));
            self.0.len() - 1
        });
        at as u32
    }

    /// The number of one more expression over a field.
    pub(super) fn expression(&mut self, field: u32, whole: String) -> u32 {
        let all = &mut self.0[field as usize].1;
        all.push(whole);
        all.len() as u32 - 1
    }

    /// O(bytes).
    pub(super) fn compile(self) -> Result<Fields, RouteProblem> {
        let each = self.0.into_iter().map(|(field, all)| Ok((field, whole_values(&all)?)));
        each.collect::<Result<_, _>>().map(Fields)
    }
}

/// All of a host.
#[derive(Debug, Default)]
pub(super) struct Fields(Box<[(Field, RegexSet)]>);

/// What a request has of them, as far as it was asked for.
pub(super) struct Asked<'a> {
    pub(super) request: &'a RequestView<'a>,
    fields: &'a Fields,
    found: RefCell<SmallVec<[(u32, Found<'a>); 2]>>,
}

/// The values of a field, and which expressions match each.
struct Found<'a> {
    values: SmallVec<[Cow<'a, [u8]>; 1]>,
    matches: Option<SmallVec<[SetMatches; 1]>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(request: &'a RequestView<'a>, fields: &'a Fields) -> Self {
        Self { request, fields, found: RefCell::default() }
    }

    /// Whether one of a field's values is such. O(fields + bytes) the first time of a field, then
    /// O(fields).
    pub(super) fn any(&self, field: u32, is: impl FnMut(&[u8]) -> bool) -> bool {
        let mut is = is;
        self.with(field, |found, _| found.values.iter().any(|value| is(value)))
    }

    /// Whether an expression matches one of a field's values.
    pub(super) fn matches(&self, field: u32, expression: u32) -> bool {
        self.with(field, |found, set| {
            let Found { values, matches } = found;
            let matches =
                matches.get_or_insert_with(|| values.iter().map(|v| set.matches(v)).collect());
            matches.iter().any(|each| each.matched(expression as usize))
        })
    }

    fn with<T>(&self, field: u32, ask: impl FnOnce(&mut Found<'a>, &RegexSet) -> T) -> T {
        let mut all = self.found.borrow_mut();
        let (of, set) = &self.fields.0[field as usize];
        let known = all.iter().position(|(number, _)| *number == field);
        let at = known.unwrap_or_else(|| {
            all.push((field, Found { values: self.values(of), matches: None }));
            all.len() - 1
        });
        ask(&mut all[at].1, set)
    }

    fn values(&self, field: &'a Field) -> SmallVec<[Cow<'a, [u8]>; 1]> {
        match field {
            Field::Header(name) => self.request.headers.get_all(name).map(Cow::Borrowed).collect(),
            Field::Query(name) => {
                self.request.query.iter().flat_map(|query| query::values(query, name)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Headers;

    #[test]
    fn a_field_is_read_once_for_all_routes_that_ask_for_it() {
        let mut draft = FieldDraft::default();
        let header = Field::Header(Box::from(&b"x-a"[..]));
        let query = Field::Query(Box::from(&b"a"[..]));
        let of = |draft: &mut FieldDraft, field: &Field, n: usize| {
            let number = draft.number(field.clone());
            (number, draft.expression(number, format!("^(?:item-{n})$")))
        };
        let routes: Vec<_> = (0..500)
            .flat_map(|n| [of(&mut draft, &header, n), of(&mut draft, &query, n)])
            .collect();
        let fields = draft.compile().expect("they are small");
        assert_eq!(fields.0.len(), 2);
        let mut headers = Headers::default();
        headers.push(b"x-a", b"item-7");
        headers.push(b"x-b", b"item-9");
        headers.push(b"x-a", b"item-8");
        let query = Some(&b"a=item-1&b=item-9&a=item%2D2"[..]);
        let (method, host, path) = (b"GET", b"a.example", b"/");
        let request = RequestView { method, host, path, query, headers: &headers };
        let asked = Asked::new(&request, &fields);
        let found: Vec<_> =
            (0..1_000).filter(|at| asked.matches(routes[*at].0, routes[*at].1)).collect();
        assert_eq!(found, [3, 5, 14, 16]);
        assert!(
            asked.any(0, |value| value == b"item-8") && !asked.any(1, |value| value == b"item-8")
        );
        let read = asked.found.borrow();
        assert_eq!(read.len(), 2);
        assert!(read.iter().all(|(_, found)| found.matches.as_ref().is_some_and(|m| m.len() == 2)));
    }
}
