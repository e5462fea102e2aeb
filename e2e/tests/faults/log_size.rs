//! How much log the members keep: overwriting one key fills no volume, and a follower that was away for a while needs no copy of everything.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kvfleet_client::data::{Client, PutOptions};
use kvfleet_e2e::{
    dice,
    fleet::{Disks, Fleet, Shape},
};

use crate::verdict;

/// For one request, on a machine whose disk has a gigabyte to write.
const REQUEST: Duration = Duration::from_secs(30);
/// Of the tenant, and of its only record.
const VALUE: usize = 1 << 20;
/// What the files of the log may take, spares and all, and less than what was written …
const MOST: u64 = 1 << 30;
/// … this long after the last write.
const SOON: Duration = Duration::from_secs(60);
const WRITERS: usize = 4;
const WRITES_A_SECOND: u64 = 500;

async fn put(client: &Client, key: &str, value: Vec<u8>) -> Result<()> {
    client.put(key, value, &PutOptions::default()).await.map(drop).context("a put")
}

/// As `du`: the blocks of all files.
fn used(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        match entry?.metadata() {
            Ok(found) => bytes += found.blocks() * 512,
            // A segment that was dropped between the two calls.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

#[test]
fn overwriting_one_key_fills_no_volume() {
    let overwrites = dice::count("KVFLEET_OVERWRITES", 500);
    let most = MOST.min((overwrites * VALUE) as u64 * 3 / 4);
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Shared)).await?;
        let begun = Instant::now();
        let writers = (0..WRITERS).map(|writer| {
            let client = fleet.client(writer % 3, REQUEST);
            async move {
                let client = client?;
                for number in (writer..overwrites).step_by(WRITERS) {
                    let mut value = vec![b'v'; VALUE];
                    value[..8].copy_from_slice(&(number as u64).to_be_bytes());
                    put(&client, "one", value).await?;
                }
                anyhow::Ok(())
            }
        });
        futures::future::try_join_all(writers).await?;
        println!("{overwrites} overwrites of {} KiB took {:.1?}", VALUE >> 10, begun.elapsed());
        let ended = Instant::now();
        for number in 0..3 {
            let log = fleet.member(number).data.join("raft");
            loop {
                let bytes = used(&log)?;
                if bytes <= most {
                    println!("member {number}: {} MiB of log after {:.1?}", bytes >> 20, ended.elapsed());
                    break;
                }
                ensure!(
                    ended.elapsed() < SOON,
                    "member {number} still has {} MiB of log after {SOON:?}",
                    bytes >> 20
                );
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        fleet.finish();
        Ok(())
    });
}

#[test]
fn a_follower_that_was_away_under_load_needs_no_copy_of_everything() {
    let seconds = dice::count("KVFLEET_AWAY_SECONDS", 10) as u64;
    verdict::run(async {
        let mut fleet = Fleet::start(Shape::three(Disks::Shared)).await?;
        let leader = fleet.leader().await?;
        let away = (leader + 1) % 3;
        fleet.member(away).kill()?;
        let clients = (0..WRITERS).map(|_| fleet.client(leader, REQUEST)).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        let total = WRITES_A_SECOND * seconds;
        let writers = clients.iter().enumerate().map(|(writer, client)| async move {
            for number in (writer as u64..total).step_by(WRITERS) {
                // At the pace of the whole; a machine that cannot keep it writes as fast as it can.
                tokio::time::sleep_until(
                    (begun + Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(WRITES_A_SECOND)?).into(),
                )
                .await;
                put(client, &format!("away/{number}"), vec![b'v'; 1_000]).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(writers).await?;
        println!("{total} writes took {:.1?}", begun.elapsed());
        fleet.start_member(away)?;
        let took = fleet.ready(away).await?;
        fleet.converge("away/", SOON).await?;
        println!("the follower was ready after {took:.1?}");
        for number in 0..3 {
            let standing = fleet.standing(number).await.context("its metrics")?;
            ensure!(
                standing.snapshots_sent == 0,
                "member {number} has sent {} snapshots",
                standing.snapshots_sent
            );
        }
        fleet.finish();
        Ok(())
    });
}
