//! The DTLS engine alone: the same suites, groups and certificates, a verify callback that says yes, no table.

use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use boring::pkey::PKey;
use boring::ssl::{
    HandshakeError, MidHandshakeSslStream, Ssl, SslContext, SslContextBuilder, SslMethod,
    SslOptions, SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use boring::x509::X509;

use crate::load::Channel;
use crate::pki::Issued;

const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
const GROUPS: &str = "X25519:P-256:P-384";
const MTU: u32 = 1232;

/// What the engine does about the peer's certificate.
#[derive(Clone, Copy)]
pub(crate) enum Verifying<'a> {
    /// A callback says yes: no signature of a certificate is looked at.
    Nothing,
    /// Its own X.509: the whole chain up to this root (PEM), every time.
    Chain(&'a str),
}

/// A context of one version, for either role.
pub(crate) fn context(
    issued: &Issued,
    version: SslVersion,
    verifying: Verifying<'_>,
) -> SslContext {
    let mut context = SslContextBuilder::new(SslMethod::dtls()).unwrap();
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context.set_strict_cipher_list(CIPHERS).unwrap();
    context.set_curves_list(GROUPS).unwrap();
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(SslOptions::NO_TICKET);
    let mut chain = X509::stack_from_pem(issued.chain.as_bytes())
        .unwrap()
        .into_iter();
    context.set_certificate(&chain.next().unwrap()).unwrap();
    for issuer in chain {
        context.add_extra_chain_cert(issuer).unwrap();
    }
    let key = PKey::private_key_from_pem(issued.key.as_bytes()).unwrap();
    context.set_private_key(&key).unwrap();
    let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    match verifying {
        Verifying::Nothing => context.set_custom_verify_callback(mode, |_| Ok(())),
        Verifying::Chain(root) => {
            let root = X509::from_pem(root.as_bytes()).unwrap();
            context.cert_store_mut().add_cert(&root).unwrap();
            context.set_verify(mode);
        }
    }
    context.build()
}

/// A memory transport: datagrams in, datagrams out.
#[derive(Default)]
pub(crate) struct Memory {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.take().ok_or(io::ErrorKind::WouldBlock)?;
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Ok(len)
    }
}

impl Write for Memory {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end of a handshake in memory.
enum End {
    Open(MidHandshakeSslStream<Memory>),
    Done(SslStream<Memory>),
}

impl End {
    fn wire(&mut self) -> &mut Memory {
        match self {
            Self::Open(stream) => stream.get_mut(),
            Self::Done(stream) => stream.get_mut(),
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    fn advance(self) -> Self {
        match self {
            Self::Open(stream) => match stream.handshake() {
                Ok(stream) => Self::Done(stream),
                Err(HandshakeError::WouldBlock(stream)) => Self::Open(stream),
                Err(error) => panic!("{error}"),
            },
            Self::Done(mut stream) => {
                // Acknowledgements of DTLS 1.3, and close_notify.
                let _nothing = stream.ssl_read(&mut [0; 256]);
                Self::Done(stream)
            }
        }
    }

    fn finished(self) -> SslStream<Memory> {
        match self {
            Self::Done(stream) => stream,
            Self::Open(_) => panic!("the handshake did not end"),
        }
    }
}

/// One handshake in memory; the client's and the server's end of it.
pub(crate) fn handshake(
    client: &SslContext,
    server: &SslContext,
) -> (SslStream<Memory>, SslStream<Memory>) {
    let ssl = |context| {
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_mtu(MTU).unwrap();
        ssl
    };
    let mut client = End::Open(ssl(client).setup_connect(Memory::default())).advance();
    let mut server = End::Open(ssl(server).setup_accept(Memory::default()));
    loop {
        let mut moved = false;
        for datagram in std::mem::take(&mut client.wire().outgoing) {
            moved = true;
            server.wire().incoming = Some(datagram);
            server = server.advance();
        }
        for datagram in std::mem::take(&mut server.wire().outgoing) {
            moved = true;
            client.wire().incoming = Some(datagram);
            client = client.advance();
        }
        if !moved {
            assert!(client.is_done() && server.is_done());
            return (client.finished(), server.finished());
        }
    }
}

/// Says close_notify on one side and hears it on the other, as a table of ours does.
pub(crate) fn close(mut client: SslStream<Memory>, mut server: SslStream<Memory>) {
    let _said = client.shutdown();
    for datagram in std::mem::take(&mut client.get_mut().outgoing) {
        server.get_mut().incoming = Some(datagram);
        let _closed = server.ssl_read(&mut [0; 256]);
    }
    let _answered = server.shutdown();
}

/// A connected UDP socket as the engine's transport.
struct Wire(UdpSocket);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.send(datagram)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A DTLS client on a socket of its own.
pub(crate) struct Secure {
    stream: SslStream<Wire>,
}

impl Secure {
    /// Hands the handshake a connected socket; `None` when the server did not come along within five seconds.
    pub(crate) fn connect(context: &SslContext, socket: UdpSocket) -> Option<Self> {
        // Blocking, so that a server of one thread has the processor for itself meanwhile.
        let limit = Duration::from_secs(5);
        socket.set_read_timeout(Some(limit)).unwrap();
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_mtu(MTU).unwrap();
        let start = Instant::now();
        let mut step = ssl.setup_connect(Wire(socket)).handshake();
        loop {
            match step {
                Ok(mut stream) => {
                    stream.get_mut().0.set_nonblocking(true).unwrap();
                    return Some(Self { stream });
                }
                Err(HandshakeError::WouldBlock(stream)) if start.elapsed() < limit => {
                    step = stream.handshake();
                }
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn close(mut self) {
        let _said = self.stream.shutdown();
    }
}

impl Channel for Secure {
    fn send(&mut self, message: &[u8]) {
        // A refused send shows as silence, and is repeated.
        let _sent = self.stream.ssl_write(message);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.stream.ssl_read(buffer).ok()
    }
}
