//! Hellos.

use prost::Message as _;

use super::*;
use crate::peer::{CallError, Lane, PeerAddress, hello::Greeter};

async fn until_refused(member: &Transport, count: u64) {
    let end = soon();
    while member.refused_hellos() < count {
        assert!(Instant::now() < end, "{count} were not refused");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A member that only knows older formats, and one that only knows newer ones, on either end of the connection.
#[tokio::test]
async fn without_a_common_format_the_connection_is_refused() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut refused = 0;
    for (lowest, highest, upgrade) in [(1, 2, "upgrade m22"), (4, 9, "upgrade m11")] {
        let mut caller = net.dial(&member).await;
        caller.send(&hello_of(lowest, highest).encode()).await;
        let told = caller.hello().await;
        assert_eq!((told.lowest, told.highest), (3, 3), "it says what it knows all the same");
        assert!(caller.is_closed().await);
        refused += 1;
        until_refused(&member, refused).await;

        let (address, mut come) = net.listen().await;
        let peer = PeerAddress {
            id: OTHER,
            address: address.to_string(),
        };
        let played = tokio::spawn(async move {
            let mut caller = come.recv().await.unwrap();
            caller.send(&hello_of(lowest, highest).encode()).await;
            caller.hello().await;
            assert!(caller.is_closed().await);
        });
        let answer = member.call(&peer, Lane::Calls, Method::Ping, Bytes::new(), soon()).await;
        let Err(CallError::Unreachable { reason, .. }) = answer else {
            panic!("{answer:?}")
        };
        let formats = format!("speaks the wire formats {lowest} to {highest}, and member m11");
        assert!(
            reason.contains(&formats) && reason.contains("3 to 3") && reason.ends_with(upgrade),
            "{reason}"
        );
        played.await.unwrap();
        refused += 1;
        until_refused(&member, refused).await;
    }
}

#[tokio::test]
async fn the_newest_common_format_is_spoken_and_levels_are_remembered() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    assert_eq!(member.levels_of(OTHER), None);
    let mut caller = net.dial(&member).await;
    caller.send(&hello_of(1, 9).encode()).await;
    let told = caller.hello().await;
    assert_eq!((told.sender, told.shard, told.levels), (OWN, 0, levels(2)));
    caller.send(&frame_of(&header(Method::Ping, 5), b"")).await;
    let (answer, _) = caller.frame().await;
    assert_eq!((answer.format, answer.kind, answer.request), (3, Kind::Answer, 5));
    assert_eq!(member.levels_of(OTHER), Some(levels(7)));
    // After its program was exchanged.
    let mut caller = net.dial(&member).await;
    let older = Hello {
        levels: levels(1),
        ..hello_of(3, 3)
    };
    caller.send(&older.encode()).await;
    caller.send(&frame_of(&header(Method::Ping, 6), b"")).await;
    caller.hello().await;
    caller.frame().await;
    assert_eq!(member.levels_of(OTHER), Some(levels(1)));
    assert_eq!(member.refused_hellos(), 0);
}

#[tokio::test]
async fn a_hello_with_fields_of_a_later_program_is_read() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut caller = net.dial(&member).await;
    let mut message = hello_of(3, 3).encode_to_vec();
    // Field 1000, a text.
    message.extend(b"\xc2\x3e\x04more");
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    caller.send(&[&b"kvhi"[..], &length, &message].concat()).await;
    caller.hello().await;
    caller.send(&frame_of(&header(Method::Ping, 5), b"")).await;
    assert_eq!(caller.frame().await.0.kind, Kind::Answer);
}

/// The first frame of a program from before the hello; a hello that is too long; and one that is no message.
#[tokio::test]
async fn bytes_that_are_no_hello_are_refused() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let first: [&[u8]; 3] = [&[0, 0, 0, 68, 2, 1, 0, 0, 0, 0, 0, 0], b"kvhi\xff\xff", b"kvhi\x00\x03\x0a\xff\xff"];
    for (at, bytes) in first.into_iter().enumerate() {
        let mut caller = net.dial(&member).await;
        caller.send(bytes).await;
        caller.hello().await;
        assert!(caller.is_closed().await, "{bytes:?}");
        until_refused(&member, at as u64 + 1).await;
    }
}

/// Time is made up here: both ends are in this process.
#[tokio::test(start_paused = true)]
async fn a_hello_that_never_comes_is_not_waited_for() {
    let greeter = Greeter::new(hello_of(3, 3));
    let (mut near, _far) = tokio::io::duplex(1 << 10);
    let began = Instant::now();
    let error = greeter.greet(&mut near).await.unwrap_err();
    assert_eq!((error, began.elapsed()), (hello::HelloError::Late, hello::LIMIT));
    assert_eq!(greeter.refused(), 1);
}

#[tokio::test]
async fn a_silent_caller_is_cut() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut caller = net.dial(&member).await;
    caller.hello().await;
    let began = Instant::now();
    assert!(caller.is_closed().await);
    assert!(began.elapsed() < 2 * hello::LIMIT, "{:?}", began.elapsed());
    until_refused(&member, 1).await;
}

#[tokio::test]
async fn a_hello_of_another_cluster_is_refused() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut caller = net.dial(&member).await;
    let foreign = Hello {
        cluster: Bytes::from_static(&[7; 16]),
        ..hello_of(3, 3)
    };
    caller.send(&foreign.encode()).await;
    caller.hello().await;
    assert!(caller.is_closed().await);
    until_refused(&member, 1).await;
}

/// A member that cannot be spoken to dials ten times a second.
#[test]
fn a_refusal_is_told_once_per_member_until_it_changes() {
    let greeter = Greeter::new(hello_of(3, 3));
    let judged = |hello: Hello| {
        let format = greeter.format_with(&hello);
        greeter.remember(hello, format.err())
    };
    assert!(judged(hello_of(1, 2)), "told");
    for _ in 0..100 {
        assert!(!judged(hello_of(1, 2)), "told again");
    }
    assert!(judged(hello_of(1, 1)), "it says something else");
    assert!(!judged(hello_of(3, 4)), "it is heard");
    assert!(judged(hello_of(1, 1)), "and is refused again");
    assert_eq!(greeter.refused(), 103);
    // However many come.
    for sender in 1..1_000 {
        judged(Hello { sender, ..hello_of(3, 3) });
    }
    assert_eq!((greeter.levels_of(1), greeter.levels_of(999)), (None, Some(levels(7))));
}
