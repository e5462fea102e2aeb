//! Notes whom join tokens let in.

use std::sync::Arc;

use crate::{
    state::{Response, draft::Draft, tables::encode_tokens},
    storage::{Keyspace, keys},
};

/// How long a token is remembered after its end, milliseconds: members judge the end by their own clocks.
const REMEMBERED_MS: u64 = 24 * 3_600_000;

/// The first that asks has it, for good.
pub(super) fn spend(draft: &mut Draft, now_ms: u64, token: u64, member: u64, expires_at_ms: u64) -> Response {
    if let Some((holder, _)) = draft.tables.tokens.get(&token) {
        return Response::TokenSpent { member: *holder };
    }
    let tokens = Arc::make_mut(&mut draft.tables.tokens);
    tokens.retain(|_, (_, end)| end.saturating_add(REMEMBERED_MS) > now_ms);
    tokens.insert(token, (member, expires_at_ms));
    let row = encode_tokens(tokens);
    draft.rows.put(Keyspace::Meta, keys::TOKENS.to_vec(), row);
    Response::TokenSpent { member }
}
