//! Revocation by request (RFC 9483 §4.2): of one's own certificate, or by an RA.

use homefleet_cmp::asn1::{
    CertId, Failure, GeneralName, RevDetails, RevRepContent, Status, StatusInfo,
};
use homefleet_cmp::authority::Decision;
use homefleet_cmp::protection::Protection;

use super::decide::{Ca, No, Requester};
use super::standing::Standing;
use super::text;
use crate::pki::{Reason, Serial};

impl Ca {
    pub(super) async fn revocation(
        &self,
        details: &RevDetails,
        requester: &Protection,
        relay: Option<&Protection>,
    ) -> Result<Decision, No> {
        let wanted = &details.cert_details;
        let (Some(issuer), Some(number)) = (&wanted.issuer, &wanted.serial_number) else {
            return Err(No::new(
                Failure::AddInfoNotAvailable,
                "no certificate is named",
            ));
        };
        let unknown = || {
            No::new(
                Failure::BadCertId,
                "there is no such certificate of this CA",
            )
        };
        if self.ca_name().as_ref() != Some(issuer) {
            return Err(unknown());
        }
        let serial = Serial::from_integer(number.as_bytes()).map_err(|_| unknown())?;
        let who = self.who(requester, false).await?;
        let reason = details.reason().and_then(Reason::from_code);
        let reason = reason.unwrap_or(Reason::Unspecified);
        self.may_revoke(&who, &serial, reason)?;
        let by = match relay {
            Some(relay) => format!(
                "{} by {}",
                text::requester(requester),
                text::requester(relay)
            ),
            None => text::requester(requester),
        };
        self.pki
            .revoke(&serial, reason, &by)
            .await
            .map_err(|error| No::new(error.failure(), error.to_string()))?;
        let named = GeneralName::directory(issuer).map(|issuer| CertId {
            issuer,
            serial_number: number.clone(),
        });
        Ok(Decision::Revoked(RevRepContent {
            status: vec![StatusInfo::new(Status::ACCEPTED)],
            rev_certs: named.ok().map(|id| vec![id]),
            crls: None,
        }))
    }

    fn may_revoke(&self, who: &Requester, serial: &Serial, reason: Reason) -> Result<(), No> {
        if who.is_relay() {
            return Ok(());
        }
        match who {
            Requester::Certificate {
                standing: Standing::Own { serial: own, .. },
                ..
            } if own == serial && reason != Reason::RemoveFromCrl => Ok(()),
            Requester::Secret { .. } => Err(No::new(
                Failure::WrongIntegrity,
                "a request for revocation is signed by the certificate, or by an RA",
            )),
            Requester::Certificate { .. } => Err(No::new(
                Failure::NotAuthorized,
                "only the holder of a certificate or an RA may ask for its revocation",
            )),
        }
    }
}
