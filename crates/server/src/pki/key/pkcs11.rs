//! The CA's key in a PKCS#11 token: it is made there, and signs there.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::{AuthPin, Ulong};
use der::asn1::{Any, BitString, ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _};
use homefleet_cmp::asn1::{Algorithm, PublicKeyInfo};
use homefleet_cmp::crypto::{Hash, KeyKind, SignError, Signer};
use homefleet_cmp::oid;
use serde::{Deserialize, Serialize};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use zeroize::Zeroizing;

use super::super::asn1::{INTEGER, sequence, tlv};
use super::super::error::PkiError;
use super::CaKeyKind;

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenPlace {
    /// The token's PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the key pair.
    pub key: String,
}

/// A key in a token.
pub(in super::super) struct TokenKey {
    place: TokenPlace,
    pin: Zeroizing<String>,
    kind: KeyKind,
    public: PublicKeyInfo,
    /// Logged in; `None` after a failure, until it works again.
    session: Mutex<Option<(Session, ObjectHandle)>>,
}

impl TokenKey {
    /// A key that is there.
    pub(in super::super) fn open(place: &TokenPlace, pin: &str) -> Result<Self, PkiError> {
        let session = login(place, pin, false)?;
        let public = only(&session, place, ObjectClass::PUBLIC_KEY)?;
        let private = only(&session, place, ObjectClass::PRIVATE_KEY)?;
        let (kind, public) = read_public(&session, public)?;
        Ok(Self {
            place: place.clone(),
            pin: Zeroizing::new(pin.to_owned()),
            kind,
            public,
            session: Mutex::new(Some((session, private))),
        })
    }

    /// A fresh key pair. It cannot leave the token.
    pub(in super::super) fn generate(
        place: &TokenPlace,
        pin: &str,
        kind: CaKeyKind,
    ) -> Result<Self, PkiError> {
        let session = login(place, pin, true)?;
        let label = Attribute::Label(place.key.clone().into_bytes());
        let there = session.find_objects(std::slice::from_ref(&label));
        if !there.map_err(failed)?.is_empty() {
            return Err(named(place, "is there already"));
        }
        let mut id = vec![0; 16];
        getrandom::fill(&mut id).map_err(|error| PkiError::Random(error.to_string()))?;
        let mut public = vec![
            Attribute::Token(true),
            Attribute::Verify(true),
            Attribute::Id(id.clone()),
            label.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Id(id),
            label,
        ];
        let curve = |oid: ObjectIdentifier| oid.to_der().map(Attribute::EcParams);
        let wrong = |error: der::Error| PkiError::Token(error.to_string());
        let mechanism = match kind {
            CaKeyKind::P256 => {
                public.push(curve(oid::P256).map_err(wrong)?);
                Mechanism::EccKeyPairGen
            }
            CaKeyKind::P384 => {
                public.push(curve(oid::P384).map_err(wrong)?);
                Mechanism::EccKeyPairGen
            }
            CaKeyKind::Rsa3072 | CaKeyKind::Rsa4096 => {
                let bits = if kind == CaKeyKind::Rsa3072 {
                    3072
                } else {
                    4096
                };
                public.push(Attribute::ModulusBits(Ulong::new(bits)));
                public.push(Attribute::PublicExponent(vec![1, 0, 1]));
                Mechanism::RsaPkcsKeyPairGen
            }
            CaKeyKind::Ed25519 => {
                return Err(PkiError::Option(
                    "Ed25519 keys are for files: tokens have p256, p384, rsa3072, rsa4096"
                        .to_owned(),
                ));
            }
        };
        session
            .generate_key_pair(&mechanism, &public, &private)
            .map_err(failed)?;
        drop(session);
        Self::open(place, pin)
    }

    fn sign_once(
        &self,
        (session, key): &(Session, ObjectHandle),
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        match self.kind {
            KeyKind::P256 => session.sign(&Mechanism::Ecdsa, *key, &Hash::Sha256.digest(data)),
            KeyKind::P384 => session.sign(&Mechanism::Ecdsa, *key, &Hash::Sha384.digest(data)),
            _ => session.sign(&Mechanism::Sha256RsaPkcs, *key, data),
        }
    }
}

impl Signer for TokenKey {
    fn algorithm(&self) -> Algorithm {
        let (oid, parameters) = match self.kind {
            KeyKind::P256 => (oid::ECDSA_SHA256, None),
            KeyKind::P384 => (oid::ECDSA_SHA384, None),
            _ => (oid::RSA_SHA256, Some(Any::null())),
        };
        Algorithm { oid, parameters }
    }

    fn public_key(&self) -> PublicKeyInfo {
        self.public.clone()
    }

    /// A session may have ended with the token or its network: one more is opened then.
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let first = session.as_ref().map(|open| self.sign_once(open, data));
        let signature = match first {
            Some(Ok(signature)) => signature,
            _ => {
                *session = None;
                let opened = login(&self.place, &self.pin, false)
                    .and_then(|opened| {
                        let key = only(&opened, &self.place, ObjectClass::PRIVATE_KEY)?;
                        Ok((opened, key))
                    })
                    .map_err(|error| SignError(error.to_string()))?;
                let open = session.insert(opened);
                self.sign_once(open, data)
                    .map_err(|error| SignError(error.to_string()))?
            }
        };
        Ok(match self.kind {
            KeyKind::Rsa => signature,
            // PKCS#11 has both numbers one after the other, X.509 as SEQUENCE.
            _ => {
                let (r, s) = signature.split_at(signature.len() / 2);
                sequence(&[&number(r), &number(s)])
            }
        })
    }
}

fn number(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|&byte| byte != 0);
    let digits = &bytes[start.unwrap_or(bytes.len().saturating_sub(1))..];
    match digits.first() {
        Some(first) if first & 0x80 != 0 => tlv(INTEGER, &[&[0], digits]),
        _ => tlv(INTEGER, &[digits]),
    }
}

fn named(place: &TokenPlace, problem: &str) -> PkiError {
    PkiError::Token(format!(
        "`{}` in the token `{}` of {} {problem}",
        place.key,
        place.token,
        place.module.display()
    ))
}

fn login(place: &TokenPlace, pin: &str, write: bool) -> Result<Session, PkiError> {
    let context = Pkcs11::new(&place.module).map_err(failed)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed(error)),
    }
    let mut slots = context.get_slots_with_initialized_token().map_err(failed)?;
    slots.retain(|slot| {
        let info = context.get_token_info(*slot);
        info.is_ok_and(|info| info.label() == place.token)
    });
    let [slot] = slots.as_slice() else {
        return Err(PkiError::Token(format!(
            "{} has {} tokens with the label `{}`, expected one",
            place.module.display(),
            slots.len(),
            place.token
        )));
    };
    let session = if write {
        context.open_rw_session(*slot)
    } else {
        context.open_ro_session(*slot)
    }
    .map_err(failed)?;
    match session.login(UserType::User, Some(&AuthPin::new(pin.into()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) => Err(failed(error)),
    }
}

fn only(
    session: &Session,
    place: &TokenPlace,
    class: ObjectClass,
) -> Result<ObjectHandle, PkiError> {
    let template = [
        Attribute::Class(class),
        Attribute::Label(place.key.clone().into_bytes()),
    ];
    match session.find_objects(&template).map_err(failed)?.as_slice() {
        [one] => Ok(*one),
        found => {
            let problem = format!("is there {} times, expected once", found.len());
            Err(named(place, &problem))
        }
    }
}

/// The public key as certificates have it.
fn read_public(session: &Session, key: ObjectHandle) -> Result<(KeyKind, PublicKeyInfo), PkiError> {
    let unknown = || PkiError::Token("the key is not of a kind that is accepted".to_owned());
    let wanted = [
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    // One that the key does not have is an error for some tokens, so they are asked for one by one.
    let found: Vec<Attribute> = wanted
        .into_iter()
        .filter_map(|wanted| session.get_attributes(key, &[wanted]).ok())
        .flatten()
        .collect();
    let value = |pick: fn(&Attribute) -> Option<&Vec<u8>>| found.iter().find_map(pick);
    let curve = value(|attribute| match attribute {
        Attribute::EcParams(value) => Some(value),
        _ => None,
    });
    let point = value(|attribute| match attribute {
        Attribute::EcPoint(value) => Some(value),
        _ => None,
    });
    let modulus = value(|attribute| match attribute {
        Attribute::Modulus(value) => Some(value),
        _ => None,
    });
    let exponent = value(|attribute| match attribute {
        Attribute::PublicExponent(value) => Some(value),
        _ => None,
    });
    let (kind, oid, parameters, bits) = match (curve, point, modulus, exponent) {
        (Some(curve), Some(point), _, _) => {
            let curve = ObjectIdentifier::from_der(curve).map_err(|_| unknown())?;
            let kind = match curve {
                oid::P256 => KeyKind::P256,
                oid::P384 => KeyKind::P384,
                _ => return Err(unknown()),
            };
            // PKCS#11 has the point as OCTET STRING; some tokens leave that out.
            let point = match OctetString::from_der(point) {
                Ok(inner) => inner.into_bytes().into(),
                Err(_) => point.clone(),
            };
            let parameters = Any::encode_from(&curve).map_err(|_| unknown())?;
            (kind, oid::EC_PUBLIC_KEY, parameters, point)
        }
        (_, _, Some(modulus), Some(exponent)) => {
            let key = sequence(&[&number(modulus), &number(exponent)]);
            (KeyKind::Rsa, oid::RSA, Any::null(), key)
        }
        _ => return Err(unknown()),
    };
    let info = SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid,
            parameters: Some(parameters),
        },
        subject_public_key: BitString::from_bytes(&bits).map_err(|_| unknown())?,
    };
    let der = info.to_der().map_err(|_| unknown())?;
    let info = PublicKeyInfo::from_der(&der).map_err(|_| unknown())?;
    Ok((kind, info))
}

fn failed(error: Error) -> PkiError {
    PkiError::Token(error.to_string())
}
