//! Information that requesters ask for (RFC 9483 §4.3, RFC 9810 §5.3.19).

use der::Encode as _;
use der::asn1::{Any, ObjectIdentifier};
use homefleet_cmp::asn1::{
    Algorithm, CertReqTemplate, CertTemplate, Certificate, CertificateList, Control, CrlSource,
    CrlStatus, Failure, GeneralName, GeneralNames, Info, Name, RootCaKeyUpdate, TypeAndValue,
};
use homefleet_cmp::authority::Decision;
use homefleet_cmp::oid;
use homefleet_cmp::protection::Protection;

use super::decide::{Ca, No};
use super::machine::Origin;
use crate::pki::{KeyClass, Profile};

impl Ca {
    pub(super) async fn infos(
        &self,
        origin: &Origin,
        infos: &[Info],
        profile: Option<&str>,
        requester: &Protection,
    ) -> Result<Decision, No> {
        self.who(requester, false).await?;
        let name = self.named(origin, profile)?;
        let mut answers = Vec::new();
        let mut unknown = Vec::new();
        for info in infos {
            match self.info(info, name).await? {
                Some(answer) => answers.push(answer),
                None => unknown.push(kind(info)),
            }
        }
        if !unknown.is_empty() {
            answers.push(Info::UnsupportedOids(unknown));
        }
        Ok(Decision::Answer(answers))
    }

    /// The answer to one question; nothing for one that is not understood.
    async fn info(&self, info: &Info, profile: Option<&str>) -> Result<Option<Info>, No> {
        let failed = |_| No::new(Failure::SystemFailure, "the CA failed");
        let profile = self
            .pki
            .profile(profile)
            .ok_or_else(|| No::new(Failure::BadRequest, "there is no such profile"))?;
        Ok(Some(match info {
            Info::CaCerts(_) => {
                let hierarchy = self.pki.hierarchy();
                let mut all = self.pki.chain();
                all.extend(hierarchy.links);
                let chain: Result<Vec<_>, _> =
                    all.iter().map(|der| Certificate::from_der(der)).collect();
                Info::CaCerts(Some(chain.map_err(failed)?))
            }
            Info::RootCaCert(old) => {
                Info::RootCaKeyUpdate(self.root_update(old.as_ref()).map_err(failed)?)
            }
            Info::CertReqTemplate(_) => {
                let template = template(profile).map_err(failed)?;
                Info::CertReqTemplate(Some(Box::new(template)))
            }
            Info::CrlStatusList(known) => {
                let crl = self.newer_crl(known).await?;
                Info::Crls(crl.map(|crl| vec![crl]))
            }
            Info::CurrentCrl(_) => Info::CurrentCrl(Some(self.crl().await?)),
            Info::KeyPairTypes(oid::SIGN_KEY_PAIR_TYPES, _) => Info::KeyPairTypes(
                oid::SIGN_KEY_PAIR_TYPES,
                Some(profile.keys().iter().map(|key| algorithm(*key)).collect()),
            ),
            Info::KeyPairTypes(types, _) => Info::KeyPairTypes(*types, None),
            // All texts here are in English.
            Info::SuppLangTags(_) => Info::SuppLangTags(vec!["en".to_owned()]),
            _ => return Ok(None),
        }))
    }

    /// The root that followed this one, with the links between both; nothing when it is the current one, or none of ours. One that several
    /// have followed is answered with the next: who asks goes on asking.
    fn root_update(&self, old: Option<&Certificate>) -> der::Result<Option<Box<RootCaKeyUpdate>>> {
        let hierarchy = self.pki.hierarchy();
        let followed = old.and_then(|old| hierarchy.after(&old.to_der()));
        let update = followed.map(super::announce::update).transpose()?;
        Ok(update.map(Box::new))
    }

    async fn crl(&self) -> Result<CertificateList, No> {
        let crl = self.pki.crl().await.map_err(|error| {
            tracing::error!(%error, "there is no list of revoked certificates");
            No::new(
                Failure::SystemUnavail,
                "there is no list of revoked certificates now",
            )
        })?;
        CertificateList::from_der(&crl)
            .map_err(|_| No::new(Failure::SystemFailure, "the CA failed"))
    }

    /// Our list, when it is asked for and newer than what is known of it.
    async fn newer_crl(&self, known: &[CrlStatus]) -> Result<Option<CertificateList>, No> {
        let crl = self.crl().await?;
        let ours = this_update(&crl);
        let names = self.crl_names();
        let newer = known.iter().any(|status| {
            let asked = match &status.source {
                CrlSource::Issuer(issuer) => names.contains(issuer),
                CrlSource::DistributionPoint(_) => true,
            };
            let older = match (&status.this_update, ours) {
                (Some(known), Some(ours)) => known.to_system_time() < ours,
                _ => true,
            };
            asked && older
        });
        Ok(newer.then_some(crl))
    }

    /// How a requester may name the issuer of our list.
    fn crl_names(&self) -> Vec<GeneralNames> {
        let name = self
            .ca_name()
            .and_then(|name| GeneralName::directory(&name).ok());
        name.and_then(|name| vec![name].to_der().ok())
            .and_then(|der| GeneralNames::from_der(&der).ok())
            .into_iter()
            .collect()
    }
}

fn this_update(crl: &CertificateList) -> Option<std::time::SystemTime> {
    use der::Decode as _;
    let list =
        x509_cert::crl::CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&crl.to_der())
            .ok()?;
    Some(list.tbs_cert_list.this_update.to_system_time())
}

/// What a request for this profile should look like (RFC 9483 §4.3.3): the subject is for the requester to fill in, and its key is of one of
/// these kinds.
fn template(profile: &Profile) -> der::Result<CertReqTemplate> {
    let keys: der::Result<Vec<TypeAndValue>> = profile
        .keys()
        .iter()
        .map(|key| match key {
            KeyClass::Rsa => Control::RsaKeyLen(profile.min_rsa_bits() as u64).write(),
            other => Control::AlgId(algorithm(*other)).write(),
        })
        .collect();
    Ok(CertReqTemplate {
        cert_template: CertTemplate {
            subject: Some(Name::null()),
            ..CertTemplate::default()
        },
        key_spec: Some(keys?),
    })
}

fn algorithm(key: KeyClass) -> Algorithm {
    let curve = |curve: ObjectIdentifier| Algorithm {
        oid: oid::EC_PUBLIC_KEY,
        parameters: Any::encode_from(&curve).ok(),
    };
    match key {
        KeyClass::P256 => curve(oid::P256),
        KeyClass::P384 => curve(oid::P384),
        KeyClass::Ed25519 => Algorithm {
            oid: oid::ED25519,
            parameters: None,
        },
        KeyClass::Rsa => Algorithm {
            oid: oid::RSA,
            parameters: Some(Any::null()),
        },
    }
}

/// The type of a question.
fn kind(info: &Info) -> ObjectIdentifier {
    match info.write() {
        Ok(entry) => entry.info_type,
        Err(_) => oid::UNSUPPORTED_OIDS,
    }
}
