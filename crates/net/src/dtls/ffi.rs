//! The few engine calls that `boring` does not wrap.
//!
//! This is the only module of the workspace that may use `unsafe`. Every function takes or returns safe types; each
//! block states why it is sound. The engine's clock is replaced by the time of the table (`set_now`), so
//! that retransmission timers follow the `now` argument of [`Sessions`](super::Sessions) and tests run in virtual time.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr;
use std::slice;
use std::time::Duration;

use boring::ssl::{SslContextBuilder, SslRef, SslSessionRef};
use boring_sys as sys;
use foreign_types::ForeignTypeRef;

thread_local! {
    /// What the engine believes the time to be, on this thread, since its own epoch.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Sets the engine's time for the calls that follow on this thread.
pub(super) fn set_now(now: Duration) {
    NOW.with(|cell| cell.set(now));
}

unsafe extern "C" fn current_time(_ssl: *const sys::SSL, out: *mut sys::timeval) {
    let now = NOW.try_with(Cell::get).unwrap_or_default();
    // SAFETY: the engine passes a pointer to a `timeval` it owns, valid for writes for the length of this call.
    unsafe {
        (*out).tv_sec = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        (*out).tv_usec = i64::from(now.subsec_micros());
    }
}

/// Makes every connection of `context` read the time set by [`set_now`].
pub(super) fn use_table_clock(context: &mut SslContextBuilder) {
    // SAFETY: `context` owns a live SSL_CTX; `current_time` has the required signature, is 'static and never unwinds.
    unsafe { sys::SSL_CTX_set_current_time_cb(context.as_ptr(), Some(current_time)) }
}

/// How many resumption tickets a DTLS 1.3 server sends after each handshake.
pub(super) fn set_num_tickets(context: &mut SslContextBuilder, tickets: usize) {
    // SAFETY: `context` owns a live SSL_CTX; the call only stores a number.
    unsafe {
        sys::SSL_CTX_set_num_tickets(context.as_ptr(), tickets);
    }
}

/// The longest certificate chain, in bytes, the engine reassembles from a peer.
pub(super) fn set_max_chain_bytes(context: &mut SslContextBuilder, bytes: usize) {
    // SAFETY: `context` owns a live SSL_CTX; the call only stores a number.
    unsafe { sys::SSL_CTX_set_max_cert_list(context.as_ptr(), bytes) }
}

/// Makes the connection a client.
pub(super) fn set_connect_state(ssl: &mut SslRef) {
    // SAFETY: `ssl` is a live SSL, exclusively borrowed.
    unsafe { sys::SSL_set_connect_state(ssl.as_ptr()) }
}

/// Makes the connection a server.
pub(super) fn set_accept_state(ssl: &mut SslRef) {
    // SAFETY: `ssl` is a live SSL, exclusively borrowed.
    unsafe { sys::SSL_set_accept_state(ssl.as_ptr()) }
}

/// The first retransmission interval (RFC 6347 §4.2.4.1); it doubles with every retransmission.
pub(super) fn set_initial_timeout(ssl: &mut SslRef, initial: Duration) {
    let millis = u32::try_from(initial.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: `ssl` is a live SSL, exclusively borrowed; the call only stores a number.
    unsafe { sys::DTLSv1_set_initial_timeout_duration(ssl.as_ptr(), millis) }
}

/// Time until the connection wants [`handle_timeout`], if a timer runs.
pub(super) fn timeout(ssl: &SslRef) -> Option<Duration> {
    let mut left = sys::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    // SAFETY: `ssl` is a live SSL; `left` is a valid timeval the call writes to.
    let running = unsafe { sys::DTLSv1_get_timeout(ssl.as_ptr(), &mut left) };
    (running == 1).then(|| {
        Duration::from_secs(u64::try_from(left.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(left.tv_usec).unwrap_or(0))
    })
}

/// The highest epoch that the connection reads (RFC 9147 §6.1): 0 while nothing is protected.
pub(super) fn read_epoch(ssl: &SslRef) -> u16 {
    // SAFETY: `ssl` is a live SSL of a DTLS method, which every context here has.
    unsafe { sys::SSL_get_dtls_read_epoch(ssl.as_ptr()) }
}

/// Whether something of the datagram that was read last is still to be taken: decrypted bytes, or records after them.
pub(super) fn has_pending(ssl: &SslRef) -> bool {
    // SAFETY: `ssl` is a live SSL; the call only looks at its buffers.
    unsafe { sys::SSL_has_pending(ssl.as_ptr()) == 1 }
}

/// Retransmits what is due. `false`: the engine gave the connection up.
pub(super) fn handle_timeout(ssl: &mut SslRef) -> bool {
    // SAFETY: `ssl` is a live SSL, exclusively borrowed; its BIO is the memory transport of the same stream.
    unsafe { sys::DTLSv1_handle_timeout(ssl.as_ptr()) >= 0 }
}

/// Sends a fatal alert; nothing can be written afterwards.
pub(super) fn send_fatal_alert(ssl: &mut SslRef, alert: u8) {
    // SAFETY: `ssl` is a live SSL, exclusively borrowed; any alert number is accepted.
    unsafe {
        sys::SSL_send_fatal_alert(ssl.as_ptr(), alert);
    }
}

/// Offers `session` for resumption.
pub(super) fn resume(ssl: &mut SslRef, session: &SslSessionRef) -> bool {
    // SAFETY: both objects are live; the engine takes its own reference to the session. The caller keeps sessions
    // per engine, so the session belongs to the SSL_CTX of this connection.
    unsafe { ssl.set_session(session).is_ok() }
}

/// The certificates the peer presented (or, on a resumed session, had presented), DER, leaf first.
pub(super) fn peer_chain(ssl: &SslRef) -> Vec<Vec<u8>> {
    // SAFETY: `ssl` is a live SSL. The stack and its buffers belong to the session, which outlives this borrow; every
    // buffer is copied before returning. A null stack means that no certificate was presented.
    unsafe {
        let stack: *const sys::OPENSSL_STACK = sys::SSL_get0_peer_certificates(ssl.as_ptr()).cast();
        if stack.is_null() {
            return Vec::new();
        }
        (0..sys::OPENSSL_sk_num(stack))
            .map(|index| {
                let buffer: *const sys::CRYPTO_BUFFER = sys::OPENSSL_sk_value(stack, index).cast();
                let (data, len) = match ptr::NonNull::new(buffer.cast_mut()) {
                    Some(buffer) => (
                        sys::CRYPTO_BUFFER_data(buffer.as_ptr()),
                        sys::CRYPTO_BUFFER_len(buffer.as_ptr()),
                    ),
                    None => (ptr::null(), 0),
                };
                if len == 0 {
                    Vec::new()
                } else {
                    slice::from_raw_parts(data, len).to_vec()
                }
            })
            .collect()
    }
}
