//! Requests that follow the rules.

use super::*;

fn head() -> Head {
    Head {
        method: "POST".into(),
        path: "/s/M".into(),
        content_type: Some("application/grpc".into()),
        ..Head::default()
    }
}

#[test]
fn a_call_is_one_event_with_its_whole_message() {
    let mut client = Client::new();
    client.send(&call(1, 10));
    assert_eq!(client.events(), [Event::Request { stream: 1, head: head(), body: message(10).into() }]);
    assert_eq!(client.input.len(), 0);
}

#[test]
fn the_greeting_names_the_limits() {
    let mut client = Client::silent(Limits::default());
    let sent = client.sent();
    assert_eq!((sent[0].kind, sent[0].payload.len()), (kind::SETTINGS, 24));
    assert_eq!(sent[0].payload[..6], [0, 3, 0, 0, 3, 232]);
    assert_eq!((sent[1].kind, sent[1].stream), (kind::WINDOW_UPDATE, 0));
    client.send(PREFACE);
    client.send(&frame(kind::SETTINGS, 0, 0, &[]));
    assert_eq!(client.sent(), [Sent { kind: kind::SETTINGS, flags: flag::ACK, stream: 0, payload: vec![] }]);
}

#[test]
fn a_body_in_many_frames_is_joined() {
    let mut client = Client::new();
    let body = message(100_000);
    client.send(&headers(1, 0));
    for piece in body.chunks(7777) {
        client.send(&data(1, 0, piece));
    }
    assert!(client.events().is_empty());
    client.send(&data(1, flag::END_STREAM, &[]));
    assert_eq!(client.events(), [Event::Request { stream: 1, head: head(), body: body.into() }]);
}

#[test]
fn a_large_body_in_one_frame_is_not_copied() {
    let mut client = Client::new();
    let bytes = call(1, 100_000);
    client.input.extend_from_slice(&bytes);
    let end = client.input.as_ptr_range().end;
    client.send(&[]);
    match &client.events()[..] {
        [Event::Request { body, .. }] => assert_eq!(body.as_ptr_range().end, end),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_may_have_no_body_and_may_end_with_trailers() {
    let mut client = Client::new();
    client.send(&headers(1, flag::END_STREAM));
    assert_eq!(client.events(), [Event::Request { stream: 1, head: head(), body: bytes::Bytes::new() }]);
    client.send(&headers(3, 0));
    client.send(&data(3, 0, b"abc"));
    let trailers = literal_block(&[("x-end", b"1")]);
    client.send(&frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, 3, &trailers));
    assert_eq!(client.events(), [Event::Request { stream: 3, head: head(), body: "abc".into() }]);
}

#[test]
fn padding_and_priority_are_no_part_of_a_request() {
    let mut client = Client::new();
    let head_payload = [&[3][..], &[0, 0, 0, 0, 9], &block(&[]), &[0; 3]].concat();
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED | flag::PRIORITY, 1, &head_payload));
    client.send(&frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]));
    client.send(&data(1, flag::END_STREAM | flag::PADDED, b"\x02abc\0\0"));
    assert_eq!(client.events(), [Event::Request { stream: 1, head: head(), body: "abc".into() }]);
}

#[test]
fn a_head_may_come_in_many_frames() {
    let mut client = Client::new();
    let block = block(&[("x-request-id", b"7")]);
    client.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &block[..10]));
    client.send(&frame(kind::CONTINUATION, 0, 1, &[]));
    for piece in block[10..].chunks(9) {
        client.send(&frame(kind::CONTINUATION, 0, 1, piece));
    }
    assert!(client.events().is_empty());
    client.send(&frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]));
    let head = Head { request_id: Some("7".into()), ..head() };
    assert_eq!(client.events(), [Event::Request { stream: 1, head, body: bytes::Bytes::new() }]);
}

#[test]
fn fields_that_were_sent_before_are_known_again() {
    let mut client = Client::new();
    let mut first = vec![0x83, 0x86, 0x44, 4];
    first.extend_from_slice(b"/s/M");
    first.extend_from_slice(&[0x5f, 16]);
    first.extend_from_slice(b"application/grpc");
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &first));
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &[0x83, 0x86, 0xbf, 0xbe]));
    let request = |stream| Event::Request { stream, head: head(), body: bytes::Bytes::new() };
    assert_eq!(client.events(), [request(1), request(3)]);
}

#[test]
fn huffman_coded_fields_are_read() {
    let mut client = Client::new();
    let path = super::super::hpack::huffman_encode(b"/s/M");
    let mut block = vec![0x83, 0x86, 0x44, 0x80 | path.len() as u8];
    block.extend_from_slice(&path);
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block));
    match &client.events()[..] {
        [Event::Request { head, .. }] => assert_eq!(head.path, "/s/M"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_frames_flags_and_settings_are_ignored() {
    let mut client = Client::new();
    client.send(&frame(0x77, 0xff, 0, b"whatever"));
    client.send(&setting(0x7777, 1));
    client.send(&frame(kind::PING, 0xfe, 0, b"12345678"));
    client.send(&call(1, 1));
    assert_eq!(client.stream_of_only_request(), 1);
    assert_eq!(client.sent_of(kind::PING)[0].payload, b"12345678");
}

#[test]
fn a_body_that_is_too_large_is_handed_over_to_be_refused() {
    let mut client = Client::with(Limits { max_body_bytes: 100, ..Limits::default() });
    client.send(&headers(1, 0));
    client.send(&data(1, 0, &message(80)));
    client.send(&data(1, 0, &message(80)));
    assert_eq!(client.events(), [Event::Rejected { stream: 1, head: head(), why: Rejection::BodyTooLarge }]);
    assert_eq!(client.connection.held_bytes(), headers::STREAM_SIZE);
    client.connection.refuse(1, &[("grpc-status", b"8")]);
    let kinds: Vec<_> = client.sent().iter().map(|frame| (frame.kind, frame.flags)).collect();
    let trailers_only = flag::END_HEADERS | flag::END_STREAM;
    assert_eq!(kinds, [(kind::HEADERS, trailers_only), (kind::RST_STREAM, 0)]);
    client.send(&data(1, flag::END_STREAM, &message(80)));
    client.send(&call(3, 80));
    assert_eq!(client.stream_of_only_request(), 3);
    assert!(client.sent().is_empty());
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let mut client = Client::with(Limits { max_body_bytes: 100, ..Limits::default() });
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[("content-length", b"101")])));
    assert!(matches!(client.events()[..], [Event::Rejected { why: Rejection::BodyTooLarge, .. }]));
}

#[test]
fn a_head_that_is_too_large_is_handed_over_to_be_refused() {
    let mut client = Client::with(Limits { max_header_bytes: 500, ..Limits::default() });
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[("x-large", &[b'a'; 400])])));
    client.send(&data(1, flag::END_STREAM, b"abc"));
    assert_eq!(client.events(), [Event::Rejected { stream: 1, head: head(), why: Rejection::HeadTooLarge }]);
    client.connection.refuse(1, &[("grpc-status", b"8")]);
    assert!(client.sent_of(kind::RST_STREAM).is_empty(), "the client had sent all");
}

#[test]
fn what_finds_no_room_is_rejected_and_held_bytes_come_back_to_zero() {
    let mut client = Client::new();
    client.room = 10_000;
    for stream in [1, 3] {
        client.send(&headers(stream, 0));
        client.send(&data(stream, 0, &message(3000)[..1500]));
    }
    assert!(client.connection.held_bytes() > 3000);
    client.send(&data(1, 0, &[7; 9000]));
    assert!(matches!(client.events()[..], [Event::Rejected { stream: 1, why: Rejection::NoRoom, .. }]));
    client.connection.refuse(1, &[]);
    client.send(&frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    assert_eq!(client.connection.held_bytes(), 0);
    client.room = 0;
    client.send(&call(5, 1));
    assert!(matches!(client.events()[..], [Event::Rejected { stream: 5, why: Rejection::NoRoom, .. }]));
}

#[test]
fn a_request_that_is_given_up_before_it_was_handed_over_was_never_there() {
    let mut client = Client::new();
    let reset = |stream| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    client.send(&[call(1, 1), reset(1)].concat());
    assert!(client.events().is_empty());
    client.send(&call(3, 1));
    assert_eq!(client.stream_of_only_request(), 3);
    client.send(&reset(3));
    assert_eq!(client.events(), [Event::Reset { stream: 3 }]);
    client.connection.respond(3, message(1).into());
    assert!(client.sent().is_empty());
}

#[test]
fn a_request_counts_as_held_until_it_is_answered() {
    let mut client = Client::new();
    client.send(&setting(4, 0));
    client.send(&call(1, 10_000));
    assert_eq!(client.stream_of_only_request(), 1);
    assert!(client.connection.held_bytes() > 10_000);
    client.connection.respond(1, message(1).into());
    assert_eq!(client.connection.held_bytes(), headers::STREAM_SIZE);
    client.send(&window_update(1, 100));
    client.sent();
    assert_eq!(client.connection.held_bytes(), 0);
}

#[test]
fn a_request_that_is_not_admitted_is_rejected_before_its_body_comes() {
    let mut client = Client::new();
    client.connection.admit_with(Box::new(|head| head.authorization.is_some()));
    client.send(&headers(1, 0));
    assert_eq!(client.events(), [Event::Rejected { stream: 1, head: head(), why: Rejection::NotAdmitted }]);
    client.connection.refuse(1, &[("grpc-status", b"16")]);
    client.send(&data(1, flag::END_STREAM, &message(80)));
    assert_eq!(client.connection.held_bytes(), 0);
    let block = block(&[("authorization", b"Bearer x")]);
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 3, &block));
    client.send(&data(3, flag::END_STREAM, &message(80)));
    assert_eq!(client.stream_of_only_request(), 3);
}
