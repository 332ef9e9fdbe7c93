//! TD_COAP_BLOCK_01 to 06: block-wise transfers (RFC 7959).

use homefleet_coap::{Block, Code, Request};

use super::lab::{Lab, Packet};
use crate::plugtest::large;
use crate::support::Side::{Client, Server};

/// A lab whose client wants blocks of one size, and its server of another.
fn lab(client_size: usize, server_size: usize) -> Lab {
    Lab::with(|client, server| {
        client.block_size = client_size;
        server.block_size = server_size;
    })
}

/// Requests and responses in turn, with the request's message ID and token in each response.
fn exchanges(packets: &[Packet]) -> Vec<(&Packet, &Packet)> {
    let pairs: Vec<_> = packets.chunks(2).map(|pair| (&pair[0], &pair[1])).collect();
    for (request, response) in &pairs {
        assert_eq!((request.from, response.from), (Client, Server));
        response.same_id_and_token(request);
    }
    pairs
}

/// Checks the Block2 part of some exchanges from `first` on; the body. The first request names block `first`, of a size that is
/// `size` or reduced to it.
fn check_download(pairs: &[(&Packet, &Packet)], size: usize, code: Code) -> Vec<u8> {
    let mut body = Vec::new();
    for (at, (request, response)) in pairs.iter().enumerate() {
        let more = at + 1 < pairs.len();
        assert_eq!(response.code, code);
        let block = response.options.block2().unwrap();
        assert_eq!((block.more, block.size()), (more, size), "{response:?}");
        assert_eq!(block.offset(), body.len());
        if at > 0 {
            let asked = request.options.block2().unwrap();
            assert!(!asked.more);
            assert_eq!((asked.num, asked.size()), (block.num, size));
            assert!(request.payload.is_empty());
        }
        assert!(response.payload.len() == size || (!more && response.payload.len() < size));
        body.extend_from_slice(&response.payload);
    }
    assert!(pairs.len() > 2, "first, further and last blocks");
    body
}

/// Checks the Block1 part: the first block of the client's size, the others of that the server answered with. How many exchanges it
/// is, and the body.
fn check_upload(
    pairs: &[(&Packet, &Packet)],
    method: Code,
    sizes: (usize, usize),
    last_code: Code,
) -> (usize, Vec<u8>) {
    let mut body = Vec::new();
    let (first, then) = (sizes.0, sizes.0.min(sizes.1));
    for (at, (request, response)) in pairs.iter().enumerate() {
        assert_eq!(request.code, method);
        let block = request.options.block1().unwrap();
        let size = if at == 0 { first } else { then };
        assert_eq!((block.size(), block.offset()), (size, body.len()));
        body.extend_from_slice(&request.payload);
        let answered = response.options.block1().unwrap();
        assert_eq!((answered.num, answered.more), (block.num, block.more));
        assert_eq!(answered.size(), then);
        if !block.more {
            assert!(request.payload.len() <= size);
            assert_eq!(response.code, last_code);
            assert!(at > 1, "first, further and last blocks");
            return (at + 1, body);
        }
        assert_eq!(request.payload.len(), size);
        assert_eq!(response.code, Code::CONTINUE);
    }
    panic!("the upload has no end");
}

/// Early negotiation: the client names a size, which the server takes, or reduces.
fn early(client_size: usize, server_size: usize) {
    let mut lab = lab(client_size, server_size);
    let shown = lab.ask(Request::get("large"));
    let packets = lab.wire();
    let pairs = exchanges(&packets);
    let wanted = Block::new(0, false, Block::szx_for(client_size));
    assert_eq!(pairs[0].0.options.block2(), Some(wanted));
    let body = check_download(&pairs, client_size.min(server_size), Code::CONTENT);
    assert_eq!(shown.payload, body);
    assert_eq!(body, large(2100));
}

/// GET of a large resource, early negotiation: Block2 0/0 in the first request, the server's size from then on, no gap.
#[test]
fn td_coap_block_01() {
    early(512, 1024);
    early(512, 128);
}

/// GET of a large resource, late negotiation: no Block2 in the first request, the server's size from then on, no gap.
#[test]
fn td_coap_block_02() {
    for size in [1024, 256] {
        let mut lab = lab(1024, size);
        let shown = lab.ask(Request::get("large"));
        let packets = lab.wire();
        let pairs = exchanges(&packets);
        assert_eq!(pairs[0].0.options.block2(), None);
        assert_eq!(check_download(&pairs, size, Code::CONTENT), shown.payload);
        assert_eq!(shown.payload, large(2100));
    }
}

/// PUT of a large body: 2.31 for each block but the last, which is answered 2.04; a smaller size of the server is taken up, without a gap.
#[test]
fn td_coap_block_03() {
    for sizes in [(1024, 1024), (1024, 256), (64, 1024)] {
        let mut lab = lab(sizes.0, sizes.1);
        let body = large(2500);
        let shown = lab.ask(
            Request::put("large-update")
                .content_format(0)
                .payload(body.clone()),
        );
        assert_eq!(shown.code, Code::CHANGED);
        let packets = lab.wire();
        let pairs = exchanges(&packets);
        let (count, sent) = check_upload(&pairs, Code::PUT, sizes, Code::CHANGED);
        assert_eq!((count, &sent), (pairs.len(), &body));
        assert_eq!(lab.app.large_update.body, body);
    }
}

/// POST of a large body that creates: 2.31, then 2.01 with two Location-Path options, where the body can be read.
#[test]
fn td_coap_block_04() {
    for sizes in [(1024, 1024), (1024, 256)] {
        let mut lab = lab(sizes.0, sizes.1);
        let body = large(2500);
        let shown = lab.ask(
            Request::post("large-create")
                .content_format(0)
                .payload(body.clone()),
        );
        assert_eq!(shown.code, Code::CREATED);
        let packets = lab.wire();
        let pairs = exchanges(&packets);
        let (count, sent) = check_upload(&pairs, Code::POST, sizes, Code::CREATED);
        assert_eq!((count, &sent), (pairs.len(), &body));
        let location = shown.options.location_path();
        assert_eq!(location, "large-create/1");
        assert_eq!(lab.ask(Request::get(&location)).payload, body);
    }
}

/// POST with a large body and a large response: the answer to the last block brings the first of the response, the others are
/// asked for by POST without Block1 and payload.
#[test]
fn td_coap_block_05() {
    for sizes in [(1024, 1024), (1024, 256)] {
        let mut lab = lab(sizes.0, sizes.1);
        let body = large(2500);
        let shown = lab.ask(
            Request::post("large-post")
                .content_format(0)
                .payload(body.clone()),
        );
        let packets = lab.wire();
        let pairs = exchanges(&packets);
        let (count, sent) = check_upload(&pairs, Code::POST, sizes, Code::CHANGED);
        assert_eq!(sent, body);
        for (request, response) in &pairs[count..] {
            assert_eq!(request.code, Code::POST);
            assert_eq!(request.options.block1(), None);
            assert_eq!(response.options.block1(), None);
        }
        let received = check_download(&pairs[count - 1..], sizes.1, Code::CHANGED);
        assert_eq!(received, body.to_ascii_uppercase());
        assert_eq!(shown.payload, received);
        assert_eq!(lab.app.received.len(), 1);
    }
}

/// GET of a large resource, early negotiation of blocks of 16 bytes.
#[test]
fn td_coap_block_06() {
    early(16, 1024);
}
