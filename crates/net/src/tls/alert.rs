//! The alert that tells a peer why it is refused after its handshake.
//!
//! The engine sends alerts within the handshake only. A peer that was held is refused later; its last record is made here, with
//! the keys that the engine gives away together with the connection, which is over then.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::{Connection, ConnectionTrafficSecrets, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsStream;

/// Record types (RFC 8446 §5.1).
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
/// RFC 8446 §6.
const FATAL: u8 = 2;
/// What records of both versions say theirs is.
const VERSION: [u8; 2] = [3, 3];

/// Sends what is left to be sent and, as the last record, this fatal alert. The connection underneath is still open.
pub(super) async fn send<S>(stream: TlsStream<S>, code: u8) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut io, mut engine) = match stream {
        TlsStream::Client(stream) => {
            let (io, engine) = stream.into_inner();
            (io, Connection::from(engine))
        }
        TlsStream::Server(stream) => {
            let (io, engine) = stream.into_inner();
            (io, Connection::from(engine))
        }
    };
    let mut bytes = Vec::new();
    while engine.wants_write() {
        engine.write_tls(&mut bytes).ok()?;
    }
    let version = engine.protocol_version()?;
    let (sequence, secrets) = engine.dangerous_extract_secrets().ok()?.tx;
    bytes.extend(record(version, sequence, &secrets, code)?);
    io.write_all(&bytes).await.ok()?;
    Some(io)
}

/// One protected record.
fn record(
    version: ProtocolVersion,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
    code: u8,
) -> Option<Vec<u8>> {
    let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
        _ => return None,
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
    // Both versions: the sequence number into the last bytes of the vector (RFC 8446 §5.3, RFC 5288 §3, RFC 7905 §2).
    let mut nonce: [u8; NONCE_LEN] = iv.as_ref().try_into().ok()?;
    for (byte, number) in nonce.iter_mut().rev().zip(sequence.to_le_bytes()) {
        *byte ^= number;
    }
    let unique = Nonce::assume_unique_for_key(nonce);
    match version {
        // RFC 8446 §5.2: the type is inside.
        ProtocolVersion::TLSv1_3 => {
            let mut inner = vec![FATAL, code, ALERT];
            let header = header(APPLICATION_DATA, inner.len() + algorithm.tag_len())?;
            key.seal_in_place_append_tag(unique, Aad::from(header), &mut inner)
                .ok()?;
            Some([&header[..], &inner].concat())
        }
        // RFC 5246 §6.2.3.3.
        ProtocolVersion::TLSv1_2 => {
            let mut inner = vec![FATAL, code];
            let plain = header(ALERT, inner.len())?;
            let about = [&sequence.to_be_bytes()[..], &plain].concat();
            key.seal_in_place_append_tag(unique, Aad::from(about), &mut inner)
                .ok()?;
            // GCM says the last eight bytes of the nonce.
            let explicit = match secrets {
                ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => &[][..],
                _ => nonce.get(4..)?,
            };
            let header = header(ALERT, explicit.len() + inner.len())?;
            Some([&header[..], explicit, &inner].concat())
        }
        _ => None,
    }
}

fn header(kind: u8, len: usize) -> Option<[u8; 5]> {
    let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
    let [major, minor] = VERSION;
    Some([kind, major, minor, high, low])
}
