//! `GET /keys`: a page of records in bytewise order of their keys.

use axum::response::Response;
use kvfleet_api::tenant::bounds;

use super::{
    cursor, get,
    item::{self, Part},
    query::Query,
    refuse,
    request::Call,
};
use crate::{
    app::Listing,
    problem::Failure,
    state::{ScanLimits, ScanRange},
};

/// The most records of a page (docs/api.md, limits).
const MOST_ITEMS: u64 = 1_000;

/// The most bytes of a page.
const MOST_BYTES: u64 = 8 << 20;

pub(super) async fn scan(call: &mut Call, tenant: String) -> Result<Response, Failure> {
    let caller = call.caller(tenant)?;
    let mut query = call.query()?;
    let range = ScanRange {
        prefix: query.take("prefix")?,
        start: query.take("start")?,
        end: query.take("end")?,
        start_after: query.take("start_after")?,
        reverse: query.flag("reverse")?,
    };
    let limits = limits(call, &mut query)?;
    let reading = call.reading(&mut query)?;
    let resumed = query.take("cursor")?;
    query.finish()?;
    call.check_headers(&[], &[])?;
    check(&range)?;
    let deadline = call.deadline()?;

    let owner = caller.claims.sub.clone();
    let mut page_range = range.clone();
    if let Some(text) = resumed {
        // The bound that the scan began with lies before the cursor in the order of the scan.
        page_range.start_after = Some(cursor::parse(&owner, &range, &text)?);
    }
    let listing = call.port.app.scan(&caller, page_range, limits, reading, deadline).await?;
    let Listing { page, seen } = listing;
    call.saw(&seen);
    let part = if limits.keys_only { Part::Key } else { Part::Whole };
    let mut json = Vec::with_capacity(4 << 10);
    let mut separator: &[u8] = b"{\"items\":[";
    for (key, record) in &page.items {
        json.extend_from_slice(separator);
        separator = b",";
        item::write(&mut json, key, record, seen.now_ms, part);
    }
    if page.items.is_empty() {
        json.extend_from_slice(separator);
    }
    json.push(b']');
    if let Some(last) = &page.next {
        json.extend_from_slice(b",\"cursor\":");
        item::text(&mut json, &cursor::after(&owner, &range, last));
    }
    json.extend_from_slice(format!(",\"revision\":{}}}", seen.revision).as_bytes());
    Ok(get::typed("application/json", json))
}

/// The cluster's page unless the caller asks for another size; above the ceiling is refused, not cut down.
fn limits(call: &Call, query: &mut Query) -> Result<ScanLimits, Failure> {
    let view = call.port.app.latest();
    let settings = view.settings();
    let mut bounded = |name: &str, default: u64, ceiling: u64| match query.number(name)? {
        None => Ok(default.clamp(1, ceiling)),
        Some(wanted) if (1..=ceiling).contains(&wanted) => Ok(wanted),
        Some(_) => Err(refuse::above(name, ceiling)),
    };
    let items = bounded("limit", settings.scan_items.into(), MOST_ITEMS)?;
    let bytes = bounded("max_bytes", settings.scan_bytes, MOST_BYTES)?;
    Ok(ScanLimits {
        items: usize::try_from(items).unwrap_or(1),
        bytes,
        keys_only: query.flag("keys_only")?,
    })
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
