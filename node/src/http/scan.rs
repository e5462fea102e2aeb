//! `GET /keys`: a page of records in bytewise order of their keys.

use std::io::Write;

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use kvfleet_api::tenant::bounds;

use super::{
    answer::Pieces,
    cursor,
    item::{self, Part},
    query::Query,
    refuse,
    request::Call,
};
use crate::{
    app::{Listing, PageLimits, Share},
    problem::Failure,
    state::{Collect, Header, Record, ScanRange},
};

/// The most records of a page (docs/api.md, limits).
const MOST_ITEMS: u64 = 1_000;

/// The most bytes of a page.
const MOST_BYTES: u64 = 8 << 20;

/// Beside the records: names, the revision, and a cursor, which is a key of 2,048 bytes as base64.
const FRAME: u64 = 4 << 10;

pub(super) async fn scan(call: &mut Call, tenant: String) -> Result<Response, Failure> {
    let principal = call.principal()?;
    let mut query = call.query()?;
    let range = ScanRange {
        prefix: query.take("prefix")?,
        start: query.take("start")?,
        end: query.take("end")?,
        start_after: query.take("start_after")?,
        reverse: query.flag("reverse")?,
    };
    let Limits { items, bytes, part } = limits(call, &mut query)?;
    let reading = call.reading(&mut query)?;
    let resumed = query.take("cursor")?;
    query.finish()?;
    call.check_headers(&[], &[])?;
    check(&range)?;
    let deadline = call.deadline()?;

    let owner = principal.claimed_name().to_owned();
    let mut page_range = range.clone();
    if let Some(text) = resumed {
        // The bound that the scan began with lies before the cursor in the order of the scan.
        page_range.start_after = Some(cursor::parse(&owner, &range, &text)?);
    }
    let limits = PageLimits {
        items,
        memory: bytes + FRAME,
    };
    let begin = move |now_ms, share| Page::new(bytes, now_ms, part, share);
    let place = (tenant.as_str(), page_range);
    let listing = call.port.app.scan(&principal, place, limits, reading, deadline, begin).await?;
    let Listing { page, next, seen } = listing;
    call.saw(&seen);
    let cursor = next.map(|last| cursor::after(&owner, &range, &last));
    Ok(page.response(cursor.as_deref(), seen.revision))
}

struct Limits {
    items: usize,
    bytes: u64,
    part: Part,
}

/// The cluster's page unless the caller asks for another size; above the ceiling is refused, not cut down.
fn limits(call: &Call, query: &mut Query) -> Result<Limits, Failure> {
    let view = call.port.app.latest();
    let settings = view.settings();
    let mut bounded = |name: &str, default: u64, ceiling: u64| match query.number(name)? {
        None => Ok(default.clamp(1, ceiling)),
        Some(wanted) if (1..=ceiling).contains(&wanted) => Ok(wanted),
        Some(_) => Err(refuse::above(name, ceiling)),
    };
    let items = bounded("limit", settings.scan_items.into(), MOST_ITEMS)?;
    let bytes = bounded("max_bytes", settings.scan_bytes, MOST_BYTES)?;
    Ok(Limits {
        items: usize::try_from(items).unwrap_or(1),
        bytes,
        part: if query.flag("keys_only")? { Part::Key } else { Part::Whole },
    })
}

/// A page that is being written. Its records are written as they are read, so that only one of them is in memory beside it.
struct Page {
    json: Pieces,
    /// The most bytes of records, unless the first one alone has more.
    most: u64,
    now_ms: u64,
    part: Part,
    share: Share,
}

impl Page {
    fn new(most: u64, now_ms: u64, part: Part, share: Share) -> Self {
        Page {
            json: Pieces::default(),
            most,
            now_ms,
            part,
            share,
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        // Into memory: it does not fail.
        let _ = self.json.write_all(bytes);
    }

    fn response(mut self, cursor: Option<&str>, revision: u64) -> Response {
        if self.json.len() == 0 {
            self.raw(BEGIN);
        }
        self.raw(b"]");
        if let Some(cursor) = cursor {
            self.raw(b",\"cursor\":");
            item::text(&mut self.json, cursor);
        }
        self.raw(format!(",\"revision\":{revision}}}").as_bytes());
        let mut response = Response::new(self.json.body(self.share));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

const BEGIN: &[u8] = b"{\"items\":[";

impl Collect for Page {
    fn takes_values(&self) -> bool {
        self.part == Part::Whole
    }

    /// No envelope is shorter than its value.
    fn may_fit(&self, header: &Header) -> bool {
        self.json.len() == 0 || self.part == Part::Key || header.value_length() <= self.most
    }

    fn add(&mut self, key: &str, record: &Record) -> bool {
        let before = self.json.len();
        let first = before == 0;
        let length = item::length(key, record, self.now_ms, self.part);
        let records = before.saturating_sub(BEGIN.len() as u64) + u64::from(!first) + length;
        // The first record may have more than the page was to have, and then it takes the memory for it or does not come.
        if (!first && records > self.most) || !self.share.try_grow(records + FRAME) {
            return false;
        }
        self.raw(if first { BEGIN } else { b"," });
        item::write(&mut self.json, key, record, self.now_ms, self.part);
        true
    }
}

/// No key is longer, so a longer bound is a mistake.
fn check(range: &ScanRange) -> Result<(), Failure> {
    let ScanRange {
        prefix,
        start,
        end,
        start_after,
        reverse: _,
    } = range;
    let bounds = [("prefix", prefix), ("start", start), ("end", end), ("start_after", start_after)];
    for (name, bound) in bounds {
        if bound.as_ref().is_some_and(|bound| bound.len() > bounds::KEY_LENGTH_MAX as usize) {
            return Err(refuse::parameter(
                name,
                format!("it is longer than any key: {} bytes", bounds::KEY_LENGTH_MAX),
            ));
        }
    }
    Ok(())
}
