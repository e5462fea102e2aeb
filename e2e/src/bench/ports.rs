//! Ports of this machine that nobody uses.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
};

use anyhow::{Result, bail};

/// Below those that the kernel gives to clients, above those of well-known services.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_000;

/// The first of `count` free ports in a row, beginning where other runs on this machine likely do not.
///
/// # Errors
/// When there is no such row.
pub fn free(count: u16, offset: u16) -> Result<u16> {
    let span = LAST - FIRST;
    let start = ((process::id() as u16 % 191) * 97 + offset) % span;
    let mut at = 0;
    while at + count < span {
        let first = FIRST + (start + at) % (span - count);
        if (first..first + count).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return Ok(first);
        }
        at += count;
    }
    bail!("no {count} free ports in a row between {FIRST} and {LAST}")
}
