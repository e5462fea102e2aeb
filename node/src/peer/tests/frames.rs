//! Frames of later programs, and of other shards.

use ::bytes::BufMut;

use super::*;
use crate::peer::{CallError, Lane, PeerAddress, Refusal};

async fn greeted(net: &Net, member: &Transport) -> Raw {
    let mut caller = net.dial(member).await;
    caller.send(&hello_of(3, 3).encode()).await;
    caller.hello().await;
    caller
}

fn at(transport: &Transport, id: u64) -> PeerAddress {
    PeerAddress {
        id,
        address: transport.local_address().unwrap().to_string(),
    }
}

/// Each is answered, and the connection goes on.
#[tokio::test]
async fn what_is_not_known_is_answered_unknown_on_a_connection_that_stays() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut caller = greeted(&net, &member).await;
    let kind = Header {
        kind: Kind::Other(77),
        ..header(Method::Vote, 2)
    };
    caller.send(&frame_of(&header(Method::Unknown(200), 1), b"body")).await;
    caller.send(&frame_of(&kind, b"body")).await;
    let mut detail = frame_of(&header(Method::Vote, 3), b"body");
    detail[7] = 0x80;
    caller.send(&detail).await;
    for request in 1..=3 {
        let (answer, _) = caller.frame().await;
        assert_eq!((answer.kind, answer.request), (Kind::Refusal(Refusal::Unknown), request));
    }
    caller.send(&frame_of(&header(Method::Vote, 4), b"body")).await;
    let (answer, body) = caller.frame().await;
    assert_eq!((answer.kind, answer.request, body.as_ref()), (Kind::Answer, 4, &b"body"[..]));

    let asker = net.member(OTHER, 0).await;
    let peer = at(&member, OWN);
    let call = asker.call(&peer, Lane::Calls, Method::Unknown(200), Bytes::new(), soon());
    let error = call.await.unwrap_err();
    assert!(error.untouched());
    let words = "member 11 refused: the other member's program does not know this call: upgrade it";
    assert_eq!(error.to_string(), words);
}

#[tokio::test]
async fn a_longer_header_is_read_and_the_rest_of_it_skipped() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut caller = greeted(&net, &member).await;
    let plain = frame_of(&header(Method::Vote, 9), b"body");
    let (head, body) = plain.split_at(frame::LENGTH_BYTES + frame::HEADER_BYTES);
    let mut longer = BytesMut::new();
    longer.put_u32(u32::try_from(plain.len() - 4 + 5).unwrap());
    longer.put_slice(&head[4..8]);
    longer.put_u16(u16::try_from(frame::HEADER_BYTES + 5).unwrap());
    longer.put_slice(&head[10..]);
    longer.put_slice(b"later");
    longer.put_slice(body);
    caller.send(&longer).await;
    let (answer, body) = caller.frame().await;
    assert_eq!((answer.kind, answer.request, body.as_ref()), (Kind::Answer, 9, &b"body"[..]));
}

#[tokio::test]
async fn a_frame_that_is_cut_short_is_no_request() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let mut caller = greeted(&net, &member).await;
    let whole = frame_of(&header(Method::Vote, 9), b"body");
    caller.send(&whole[..whole.len() - 1]).await;
    caller.stream.shutdown().await.unwrap();
    assert!(caller.is_closed().await, "an answer to a part of a request");
}

#[tokio::test]
async fn a_frame_of_another_shard_is_refused() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let stranger = net.member(OTHER, 3).await;
    for method in [Method::Ping, Method::Vote, Method::Append, Method::Forward, Method::Identify] {
        let answer = stranger.call(&at(&member, OWN), Lane::Calls, method, Bytes::new(), soon()).await;
        let refusal = Refusal::OtherShard;
        assert_eq!(answer, Err(CallError::Refused { target: OWN, refusal }), "{method:?}");
    }
    assert_eq!(
        member.levels_of(OTHER),
        None,
        "a member of another shard says nothing of this one's levels"
    );
    // The same from a member of this shard.
    let fellow = net.member(OTHER, 0).await;
    let answer = fellow
        .call(&at(&member, OWN), Lane::Calls, Method::Vote, Bytes::from_static(b"v"), soon())
        .await;
    assert_eq!(answer.unwrap().as_ref(), b"v");
    assert_eq!((member.levels_of(OTHER), fellow.levels_of(OWN)), (Some(levels(2)), Some(levels(2))));
}

#[tokio::test]
async fn who_asks_for_a_name_is_told_of_the_other_shard_in_words() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    let stranger = net.member(OTHER, 3).await;
    let address = stranger.local_address().unwrap().to_string();
    let error = member.identify(&address, soon()).await.unwrap_err();
    let words = format!("at {address} there is m22 of shard 3, and this member is of shard 0: give the address of a member of this shard");
    assert_eq!(error.to_string(), words);
    let found = net.member(0x33, 3).await.identify(&address, soon()).await.unwrap();
    assert_eq!((found.id, found.shard, found.blank), (OTHER, 3, true));
    assert_eq!(found.levels, levels(2));
}

#[tokio::test]
async fn an_answer_of_another_shard_is_not_believed() {
    let net = Net::new();
    let member = net.member(OWN, 0).await;
    for (shard, is_believed) in [(0, true), (3, false)] {
        let (address, mut come) = net.listen().await;
        let peer = PeerAddress {
            id: OTHER,
            address: address.to_string(),
        };
        tokio::spawn(async move {
            let mut caller = come.recv().await.unwrap();
            caller.send(&hello_of(3, 3).encode()).await;
            caller.hello().await;
            let (asked, _) = caller.frame().await;
            let answer = Header {
                kind: Kind::Answer,
                shard,
                target: 0,
                ..header(asked.method, asked.request)
            };
            caller.send(&frame_of(&answer, b"yes")).await;
            caller.is_closed().await;
        });
        let answer = member.call(&peer, Lane::Calls, Method::Vote, Bytes::new(), soon()).await;
        if is_believed {
            assert_eq!(answer.unwrap().as_ref(), b"yes");
        } else {
            let reason = "member 22 of shard 3 answered in shard 0".to_owned();
            assert_eq!(answer, Err(CallError::Broken { target: OTHER, reason }));
        }
    }
}
