//! Bodies for fuzzers; they must never panic. Replayed over the corpus by the test suite.

use crate::{
    CertificateParts, RequestParts,
    asn1::{Body, Certificate, Control, Info, Limits, Message},
    crypto::{MacPolicy, Secret},
    possession,
    protection::{Distrust, Peers, Protection, ProtectionPolicy, verify},
};

struct Anybody;

impl Peers for Anybody {
    fn secret(&self, _: &[u8]) -> Option<Secret> {
        Some(Secret::new("secret"))
    }

    fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        Ok(())
    }
}

/// The bytes as a message: what decodes encodes to the same bytes, and everything in it is looked at.
pub fn codec(data: &[u8]) {
    let limits = Limits::default();
    let Ok(message) = Message::decode(data, &limits) else {
        return;
    };
    assert_eq!(message.encode().as_deref(), Ok(data));
    look(&message, &limits);
}

fn look(message: &Message, limits: &Limits) {
    let policy = ProtectionPolicy {
        mac: MacPolicy {
            max_iterations: 1_000,
            ..MacPolicy::lenient()
        },
        ..ProtectionPolicy::default()
    };
    let protection = verify(message, &policy, &Anybody).unwrap_or(Protection::None);
    for certificate in message.extra_certs() {
        let _parts = CertificateParts::read(certificate);
    }
    for info in message.header.general_info.iter().flatten() {
        let _info = Info::read(info);
    }
    match &*message.body {
        Body::Ir(requests) | Body::Cr(requests) | Body::Kur(requests) => {
            for request in requests {
                let _possession = possession::verify(request, &protection);
                for control in request.cert_req.controls.iter().flatten() {
                    let _control = Control::read(control);
                }
            }
        }
        Body::P10cr(request) => {
            if let Ok(parts) = RequestParts::read(request) {
                let _possession = possession::verify_pkcs10(&parts);
            }
        }
        Body::Genm(infos) | Body::Genp(infos) => {
            for info in infos {
                if let Ok(read) = Info::read(info) {
                    let _written = read.write();
                }
            }
        }
        Body::Error(error) => {
            let _text = error.status_info.to_string();
        }
        Body::Nested(_) => {
            if let (Ok(inner), Some(nesting)) =
                (message.nested(limits), limits.nesting.checked_sub(1))
            {
                let limits = Limits { nesting, ..*limits };
                for message in &inner {
                    look(message, &limits);
                }
            }
        }
        _ => {}
    }
}
