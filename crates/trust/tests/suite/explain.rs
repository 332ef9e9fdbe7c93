//! The walk as an operator reads it.

use homefleet_trust::{
    Alert, Connection, Decision, Element, FirstUse, Problem, Purpose, Refusal, Revocation,
    RevocationPolicy, RevocationReason, Time, Unknown, explain,
};

use crate::{
    evidence::{CRL_URL, Crl, instant, reason, revocable, wanted_crl, wanted_ocsp},
    forge::{CONTROLLER, Entity, HOST, Judge, ders, now, same, three},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_accepted_walk_reads_from_box_to_box() {
    let three = three(same, same, same);
    let decision = Judge::trusting(&[&three.root]).initiated(
        &[&three.peer, &three.ca],
        HOST,
        Some(CONTROLLER),
    );
    let mut expected = String::from(
        "Figure MTP.1, receiving an X.509 certificate
  1. Certificate presented?      MUST  yes
       2 certificates, the peer's is CN=peer,O=Homefleet Test
  2. Cached encrypted session?   OPT   no
       the session is new
  3. Dates valid?                MUST  yes
       it is 2026-06-01T00:00:00Z; valid from 2025-01-01T00:00:00Z to 2035-01-01T00:00:00Z
  4. Name matches?               MUST  yes
       host acs.example.com matches dNSName acs.example.com
  5. Matches stored certificate? OPT   not done: default edge N
       no certificate is stored
  6. Signed by a trusted CA?     MUST  yes
       path of 3 certificates to CN=Root,O=Homefleet Test
  7. Revoked?                    OPT   not done: default edge N
       revocation is not checked
  => Establish encrypted MTP session
     Ground: trusted CA
     To be decided anew after 2035-01-01T00:00:00Z
     Endpoint ID self::controller

Chain
",
    );
    let names = ["peer", "Intermediate", "Root"];
    for (level, (entity, source)) in [
        (&three.peer, "presented, position 0"),
        (&three.ca, "presented, position 1"),
        (&three.root, "trusted"),
    ]
    .into_iter()
    .enumerate()
    {
        let issuer = names[(level + 1).min(2)];
        let print = hex(&entity.anchor().fingerprint());
        let name = names[level];
        expected.push_str(&format!(
            "  {level}. CN={name},O=Homefleet Test
     issued by CN={issuer},O=Homefleet Test
     valid from 2025-01-01T00:00:00Z to 2035-01-01T00:00:00Z
     SHA-256 {print}
     {source}
"
        ));
    }
    assert_eq!(explain(&decision), expected);
}

#[test]
fn a_refused_walk_ends_with_the_reason_and_the_alert() {
    let three = three(
        same,
        |p| p.not_after = rcgen::date_time_ymd(2026, 1, 1),
        same,
    );
    let text = explain(&Judge::trusting(&[&three.root]).accepted(&[&three.peer, &three.ca]));
    assert!(text.contains(
        "  3. Dates valid?                MUST  no
       it is 2026-06-01T00:00:00Z; the certificate at level 1 has expired (valid from 2025-01-01T00:00:00Z to 2026-01-01T00:00:00Z)
  => Terminate communication: the certificate at level 1 has expired [certificate_expired (45)]
"
    ), "{text}");
    assert!(
        text.contains("  1. CN=Intermediate,O=Homefleet Test\n"),
        "{text}"
    );

    let none = explain(&Judge::trusting(&[&three.root]).accepted(&[]));
    assert_eq!(
        none,
        "Figure MTP.1, receiving an X.509 certificate
  1. Certificate presented?      MUST  no
       the peer presented no certificate
  => Terminate communication: the peer presented no certificate [certificate_required (116)]
"
    );
}

/// The lines from this box on, without the chain.
fn from_box(decision: &Decision, element: Element) -> String {
    let text = explain(decision);
    let at = text.find(&element.to_string()).unwrap();
    let end = text.find("\nChain\n").unwrap();
    text[at..end].to_owned()
}

#[test]
fn the_optional_boxes_say_what_they_rest_on() {
    let root = Entity::root("Root");
    let peer = root.issue(revocable(7, Some(CRL_URL), None));
    let mut judge = Judge::trusting(&[&root]);
    let mut revocation = Revocation::new(RevocationPolicy {
        unknown: Unknown::Refuse,
        ..RevocationPolicy::default()
    });
    let ask = |judge: &Judge, revocation: &Revocation| {
        judge.ask_with(&ders(&[&peer]), Connection::Accepted, Some(revocation))
    };
    let held = ask(&judge, &revocation);
    assert_eq!(
        from_box(&held, Element::Revoked),
        "Revoked?                    OPT   waiting for evidence
       the CRL of CN=Root,O=Homefleet Test from http://crl.example.com/issuer.crl
  => Hold until this is fetched
     the CRL of CN=Root,O=Homefleet Test from http://crl.example.com/issuer.crl
"
    );
    assert_eq!(held.refusal(), None);

    revocation.failed(&wanted_crl(&root), instant());
    assert_eq!(
        from_box(&ask(&judge, &revocation), Element::Revoked),
        "Revoked?                    OPT   could not be found out: edge Y by policy
       whether the certificate at level 0 is revoked could not be found out: what would tell could not be fetched
  => Terminate communication: whether the certificate at level 0 is revoked could not be found out [certificate_unknown (46)]
"
    );

    let mut crl = Crl::of(&[8]);
    let add = |revocation: &mut Revocation, crl: &Crl| {
        let der = crl.signed(&root);
        revocation
            .add(&wanted_crl(&root), None, &der, Time::Accurate(now()))
            .unwrap();
    };
    add(&mut revocation, &crl);
    assert_eq!(
        from_box(&ask(&judge, &revocation), Element::Revoked),
        "Revoked?                    OPT   no
       1 certificate is looked at; this is known until 2026-06-08T00:00:00Z
  => Establish encrypted MTP session
     Ground: trusted CA
     To be decided anew after 2026-06-08T00:00:00Z
     Endpoint ID self::controller
"
    );
    crl.revoked[0] = (crate::evidence::serial(7), reason(1));
    add(&mut revocation, &crl);
    assert_eq!(
        from_box(&ask(&judge, &revocation), Element::Revoked),
        "Revoked?                    OPT   yes
       the certificate at level 0 is revoked (keyCompromise)
  => Terminate communication: the certificate at level 0 is revoked (keyCompromise) [certificate_revoked (44)]
"
    );

    judge.cached = true;
    let none = Revocation::new(RevocationPolicy::default());
    let text = explain(&judge.accepted(&[&peer]));
    assert!(
        text.contains("yes\n       it was accepted before and still would be: trusted CA\n"),
        "{text}"
    );
    judge.cached = false;
    judge.anchors.clear();
    judge.first_use = FirstUse::Allow;
    assert_eq!(
        from_box(&ask(&judge, &none), Element::TrustedSignatureRequired),
        "Trusted signature required? OPT   no
       by policy, a peer is trusted on first use; it is who it says only as far as later connections go
  => Establish encrypted MTP session
     Ground: trust on first use
     To be decided anew after 2035-01-01T00:00:00Z
     Endpoint ID self::controller
"
    );
    judge.brokers = vec![peer.anchor()];
    assert_eq!(
        from_box(&ask(&judge, &none), Element::TrustedCa),
        "Signed by a trusted CA?     MUST  yes
       the certificate is a Trusted Broker's
  7. Revoked?                    OPT   not applicable
       the certificate is trusted itself, and no trusted issuer could revoke it
  => Establish encrypted MTP session
     Ground: Trusted Broker
     To be decided anew after 2035-01-01T00:00:00Z
     Endpoint ID self::controller
"
    );
}

#[test]
fn what_is_wanted_reads_as_what_it_is() {
    let root = Entity::root("Root");
    assert_eq!(
        wanted_ocsp(&root, 7).to_string(),
        "the OCSP status of certificate 1100000007 of CN=Root,O=Homefleet Test from http://ocsp.example.com/"
    );
}

#[test]
fn names_that_do_not_fit_are_shown() {
    let three = three(same, same, same);
    let judge = Judge::trusting(&[&three.root]);
    let decision = judge.initiated(&[&three.peer, &three.ca], "cpe\u{1b}[1m", Some("self::x"));
    assert_eq!(
        decision.steps.last().unwrap().to_string(),
        "Name matches? [MUST] no: neither host cpe\\u{1b}[1m nor Endpoint ID self::x is in the certificate, \
         which has DNS:acs.example.com, Endpoint ID self::controller"
    );
}

#[test]
fn each_refusal_has_its_tls_alert() {
    let oid = der::asn1::ObjectIdentifier::new_unwrap("1.2.3");
    for (refusal, alert) in [
        (Refusal::NoCertificate, 116),
        (
            Refusal::ChainTooLong {
                presented: 9,
                limit: 8,
            },
            46,
        ),
        (
            Refusal::CertificateTooLarge {
                index: 0,
                bytes: 9,
                limit: 8,
            },
            46,
        ),
        (Refusal::ChainTooLarge { bytes: 9, limit: 8 }, 46),
        (
            Refusal::Malformed {
                problem: Problem::Version,
            },
            42,
        ),
        (Refusal::NotYetValid { level: 0 }, 45),
        (Refusal::Expired { level: 1 }, 45),
        (Refusal::NameMismatch, 42),
        (Refusal::UnknownIssuer, 48),
        (Refusal::BadSignature { level: 0 }, 42),
        (
            Refusal::SignatureAlgorithm {
                level: 0,
                algorithm: oid,
            },
            43,
        ),
        (
            Refusal::KeySize {
                level: 0,
                bits: 1024,
            },
            43,
        ),
        (
            Refusal::KeyAlgorithm {
                level: 0,
                algorithm: oid,
            },
            43,
        ),
        (Refusal::NotACa { level: 1 }, 48),
        (
            Refusal::PathLength {
                level: 1,
                allowed: 0,
            },
            48,
        ),
        (Refusal::KeyUsage { level: 0 }, 43),
        (Refusal::KeyUsage { level: 1 }, 48),
        (
            Refusal::ExtendedKeyUsage {
                level: 0,
                purpose: Purpose::ServerAuth,
            },
            43,
        ),
        (
            Refusal::CriticalExtension {
                level: 0,
                extension: oid,
            },
            43,
        ),
        (
            Refusal::NameConstraint {
                level: 0,
                by: 1,
                name: "DNS:x".into(),
            },
            42,
        ),
        (Refusal::UnsupportedNameConstraint { level: 1 }, 43),
        (
            Refusal::OtherCertificateStored {
                endpoint_id: "self::x".into(),
            },
            46,
        ),
        (
            Refusal::Revoked {
                level: 0,
                reason: RevocationReason::KeyCompromise,
            },
            44,
        ),
        (Refusal::RevocationUnknown { level: 0 }, 46),
        (Refusal::SearchLimit, 46),
    ] {
        assert_eq!(refusal.alert().code(), alert, "{refusal}");
    }
    assert_eq!(Alert(40).to_string(), "alert 40");
}
