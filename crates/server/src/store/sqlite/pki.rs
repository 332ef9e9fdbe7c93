//! What the CA keeps: writes with their conditions, and queries.

use rusqlite::{OptionalExtension as _, Row, Savepoint, ToSql, params, params_from_iter};

use super::super::pki::{
    ApprovalRecord, ApprovalState, CertificateCounts, CertificateQuery, CertificateRecord,
    CertificateState, Certificates, Decision, PkiWrite, Revocation, SecretRecord, StateQuery,
};
use super::super::{Answer, StoreError, Unmet, Written};
use super::SqliteStore;
use super::write::int;
use crate::account::hex;
use crate::clock::Millis;

const UNCONFIRMED: i64 = 0;
const VALID: i64 = 1;
const REVOKED: i64 = 2;
/// CRLReason certificateHold (RFC 5280 §5.3.1).
const HOLD: i64 = 6;
/// CRLReason superseded.
const SUPERSEDED: i64 = 4;

const CERTIFICATE: &str = "sequence, serial, issuer, state, reason, revoked, revoked_by, profile, subject, device, requester, \
     secret, issued, not_before, not_after, fingerprint, der";
const SECRET: &str = "reference, sealed, device, profile, uses, used, created, created_by, expires";
const APPROVAL: &str = "id, state, profile, subject, device, requester, key, request, created, expires, decided, decided_by, \
     why, serial";

/// Applies one write.
pub(super) fn apply(
    to: &Savepoint<'_>,
    write: &PkiWrite,
    written: &mut Written,
) -> Result<(), StoreError> {
    match write {
        PkiWrite::Issue(certificate) => issue(to, certificate),
        PkiWrite::RequireValid { serial } => {
            let valid: bool = to
                .prepare_cached(
                    "SELECT count(*) FROM certificate WHERE serial = ?1 AND state = ?2",
                )?
                .query_row(params![serial, VALID], |row| row.get(0))?;
            held(valid.into(), "certificate", &hex(serial), Unmet::State)
        }
        PkiWrite::Confirm { serial } => confirm(to, serial),
        PkiWrite::Revoke { serial, revocation } => revoke(to, serial, revocation, written),
        PkiWrite::Release { serial } => release(to, serial, written),
        PkiWrite::RevokeUnconfirmed {
            issuer,
            before,
            revocation,
        } => revoke_unconfirmed(to, issuer, *before, revocation, written),
        PkiWrite::AddSecret(secret) => add_secret(to, secret),
        PkiWrite::SpendSecret {
            reference,
            device,
            profile,
            now,
        } => spend_secret(to, reference, (device.as_deref(), profile), *now, written),
        PkiWrite::RemoveSecret(reference) => {
            let gone = to
                .prepare_cached("DELETE FROM enrolment_secret WHERE reference = ?1")?
                .execute([reference])?;
            held(gone, "secret", &hex(reference), Unmet::Missing)
        }
        PkiWrite::AddApproval { approval, most } => add_approval(to, approval, *most),
        PkiWrite::Decide { id, decision } => decide(to, id, decision),
        PkiWrite::UseApproval { id, key, serial } => use_approval(to, id, key, serial),
        PkiWrite::Prune { before } => {
            to.prepare_cached("DELETE FROM enrolment_secret WHERE expires < ?1")?
                .execute([int(*before)])?;
            to.prepare_cached(
                "DELETE FROM approval WHERE expires < ?1 AND coalesce(decided, 0) < ?1",
            )?
            .execute([int(*before)])?;
            Ok(())
        }
        PkiWrite::Document { name, value } => {
            to.prepare_cached("INSERT OR REPLACE INTO pki_document (name, value) VALUES (?1, ?2)")?
                .execute(params![name, value])?;
            Ok(())
        }
    }
}

/// A condition holds when something was changed.
fn held(changed: usize, what: &'static str, id: &str, problem: Unmet) -> Result<(), StoreError> {
    if changed > 0 {
        return Ok(());
    }
    Err(StoreError::Condition {
        what,
        id: id.to_owned(),
        problem,
    })
}

fn issue(to: &Savepoint<'_>, certificate: &CertificateRecord) -> Result<(), StoreError> {
    let (reason, revoked, by) = match &certificate.revocation {
        Some(revocation) => (
            Some(revocation.reason),
            Some(int(revocation.at)),
            Some(revocation.by.as_str()),
        ),
        None => (None, None, None),
    };
    to.prepare_cached(
        "INSERT INTO certificate (serial, issuer, state, reason, revoked, revoked_by, profile, subject, device, requester,
             secret, issued, not_before, not_after, fingerprint, der)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?
    .execute(params![
        certificate.serial,
        certificate.issuer,
        state_number(certificate.state),
        reason,
        revoked,
        by,
        certificate.profile,
        certificate.subject,
        certificate.device,
        certificate.requester,
        certificate.secret,
        int(certificate.issued),
        int(certificate.not_before),
        int(certificate.not_after),
        certificate.fingerprint.as_slice(),
        certificate.der,
    ])?;
    Ok(())
}

fn confirm(to: &Savepoint<'_>, serial: &[u8]) -> Result<(), StoreError> {
    let confirmed = to
        .prepare_cached("UPDATE certificate SET state = ?2 WHERE serial = ?1 AND state = ?3")?
        .execute(params![serial, VALID, UNCONFIRMED])?;
    held(confirmed, "certificate", &hex(serial), Unmet::State)
}

fn revoke(
    to: &Savepoint<'_>,
    serial: &[u8],
    revocation: &Revocation,
    written: &mut Written,
) -> Result<(), StoreError> {
    let before: Option<(i64, Option<i64>, Option<Vec<u8>>)> = to
        .prepare_cached("SELECT state, reason, secret FROM certificate WHERE serial = ?1")?
        .query_row([serial], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let failed = |problem| {
        Err(StoreError::Condition {
            what: "certificate",
            id: hex(serial),
            problem,
        })
    };
    let Some((state, reason, secret)) = before else {
        return failed(Unmet::Missing);
    };
    if state == REVOKED && (reason != Some(HOLD) || i64::from(revocation.reason) == HOLD) {
        return failed(Unmet::State);
    }
    if state == UNCONFIRMED
        && let Some(secret) = secret
    {
        give_back(to, &secret, 1)?;
    }
    to.prepare_cached(
        "UPDATE certificate SET state = ?2, reason = ?3, revoked = ?4, revoked_by = ?5 WHERE serial = ?1",
    )?
    .execute(params![
        serial,
        REVOKED,
        revocation.reason,
        int(revocation.at),
        revocation.by
    ])?;
    written.revoked += 1;
    Ok(())
}

fn release(to: &Savepoint<'_>, serial: &[u8], written: &mut Written) -> Result<(), StoreError> {
    let released = to
        .prepare_cached(
            "UPDATE certificate SET state = ?2, reason = NULL, revoked = NULL, revoked_by = NULL
             WHERE serial = ?1 AND state = ?3 AND reason = ?4",
        )?
        .execute(params![serial, VALID, REVOKED, HOLD])?;
    written.revoked += 1;
    held(released, "certificate", &hex(serial), Unmet::State)
}

fn revoke_unconfirmed(
    to: &Savepoint<'_>,
    issuer: &[u8],
    before: Millis,
    revocation: &Revocation,
    written: &mut Written,
) -> Result<(), StoreError> {
    let secrets: Vec<(Vec<u8>, u32)> = to
        .prepare_cached(
            "SELECT secret, count(*) FROM certificate
             WHERE state = 0 AND issuer = ?1 AND issued < ?2 AND secret IS NOT NULL GROUP BY secret",
        )?
        .query_map(params![issuer, int(before)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (secret, count) in secrets {
        give_back(to, &secret, count)?;
    }
    let revoked = to
        .prepare_cached(
            "UPDATE certificate SET state = 2, reason = ?3, revoked = ?4, revoked_by = ?5
             WHERE state = 0 AND issuer = ?1 AND issued < ?2",
        )?
        .execute(params![
            issuer,
            int(before),
            revocation.reason,
            int(revocation.at),
            revocation.by
        ])?;
    written.revoked += u64::try_from(revoked).unwrap_or(0);
    Ok(())
}

fn give_back(to: &Savepoint<'_>, secret: &[u8], count: u32) -> Result<(), StoreError> {
    to.prepare_cached("UPDATE enrolment_secret SET used = max(used - ?2, 0) WHERE reference = ?1")?
        .execute(params![secret, count])?;
    Ok(())
}

fn add_secret(to: &Savepoint<'_>, secret: &SecretRecord) -> Result<(), StoreError> {
    let added = to
        .prepare_cached(
            "INSERT OR IGNORE INTO enrolment_secret (reference, sealed, device, profile, uses, used, created, created_by, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            secret.reference,
            secret.sealed,
            secret.device,
            secret.profile,
            secret.uses,
            secret.used,
            int(secret.created),
            secret.created_by,
            secret.expires.map(int),
        ])?;
    held(added, "secret", &hex(&secret.reference), Unmet::Exists)
}

fn spend_secret(
    to: &Savepoint<'_>,
    reference: &[u8],
    (device, profile): (Option<&str>, &str),
    now: Millis,
    written: &mut Written,
) -> Result<(), StoreError> {
    let found = to
        .prepare_cached(&format!(
            "SELECT {SECRET} FROM enrolment_secret WHERE reference = ?1"
        ))?
        .query_row([reference], secret)
        .optional()?;
    let failed = |problem| {
        Err(StoreError::Condition {
            what: "secret",
            id: hex(reference),
            problem,
        })
    };
    let Some(secret) = found else {
        return failed(Unmet::Missing);
    };
    if secret.expires.is_some_and(|expires| expires <= now) {
        return failed(Unmet::Expired);
    }
    if secret.device.is_some() && secret.device.as_deref() != device
        || secret.profile.is_some_and(|only| only != profile)
    {
        return failed(Unmet::Other);
    }
    if secret.uses.is_some_and(|uses| secret.used >= uses) {
        // Whoever holds the secret begins again: what was not confirmed is given up for it.
        let superseded = to
            .prepare_cached(
                "UPDATE certificate SET state = 2, reason = ?2, revoked = ?3, revoked_by = 'superseded'
                 WHERE sequence = (SELECT min(sequence) FROM certificate WHERE secret = ?1 AND state = 0)",
            )?
            .execute(params![reference, SUPERSEDED, int(now)])?;
        if superseded == 0 {
            return failed(Unmet::Used);
        }
        written.revoked += 1;
        return Ok(());
    }
    to.prepare_cached("UPDATE enrolment_secret SET used = used + 1 WHERE reference = ?1")?
        .execute([reference])?;
    Ok(())
}

fn add_approval(
    to: &Savepoint<'_>,
    approval: &ApprovalRecord,
    most: u64,
) -> Result<(), StoreError> {
    let waiting: i64 = to
        .prepare_cached("SELECT count(*) FROM approval WHERE state = 0")?
        .query_row([], |row| row.get(0))?;
    let room = u64::try_from(waiting).unwrap_or(u64::MAX) < most;
    held(room.into(), "approval", &approval.id, Unmet::Full)?;
    let added = to
        .prepare_cached(
            "INSERT OR IGNORE INTO approval (id, state, profile, subject, device, requester, key, request, created, expires)
             VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            approval.id,
            approval.profile,
            approval.subject,
            approval.device,
            approval.requester,
            approval.key.as_slice(),
            approval.request,
            int(approval.created),
            int(approval.expires),
        ])?;
    held(added, "approval", &approval.id, Unmet::Exists)
}

fn decide(to: &Savepoint<'_>, id: &str, decision: &Decision) -> Result<(), StoreError> {
    let found: Option<(i64, i64)> = to
        .prepare_cached("SELECT state, expires FROM approval WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let problem = match found {
        None => Some(Unmet::Missing),
        Some((state, _)) if state != 0 => Some(Unmet::State),
        Some((_, expires)) if expires <= int(decision.at) => Some(Unmet::Expired),
        Some(_) => None,
    };
    if let Some(problem) = problem {
        return Err(StoreError::Condition {
            what: "approval",
            id: id.to_owned(),
            problem,
        });
    }
    let state = if decision.approved { 1 } else { 2 };
    to.prepare_cached(
        "UPDATE approval SET state = ?2, decided = ?3, decided_by = ?4, why = ?5 WHERE id = ?1",
    )?
    .execute(params![
        id,
        state,
        int(decision.at),
        decision.by,
        decision.reason
    ])?;
    Ok(())
}

fn use_approval(
    to: &Savepoint<'_>,
    id: &str,
    key: &[u8; 32],
    serial: &[u8],
) -> Result<(), StoreError> {
    let found: Option<(i64, Vec<u8>)> = to
        .prepare_cached("SELECT state, key FROM approval WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let problem = match found {
        None => Some(Unmet::Missing),
        Some((3, _)) => Some(Unmet::Used),
        Some((1, approved)) if approved == key => None,
        Some((1, _)) => Some(Unmet::Other),
        Some(_) => Some(Unmet::State),
    };
    if let Some(problem) = problem {
        return Err(StoreError::Condition {
            what: "approval",
            id: id.to_owned(),
            problem,
        });
    }
    to.prepare_cached("UPDATE approval SET state = 3, serial = ?2 WHERE id = ?1")?
        .execute(params![id, serial])?;
    Ok(())
}

impl Certificates for SqliteStore {
    fn certificate(&self, serial: &[u8]) -> Answer<Option<CertificateRecord>> {
        let serial = serial.to_owned();
        self.read(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {CERTIFICATE} FROM certificate WHERE serial = ?1"
            ))?;
            query
                .query_row([serial], certificate)
                .optional()?
                .transpose()
        })
    }

    fn certificates(&self, query: CertificateQuery) -> Answer<Vec<CertificateRecord>> {
        self.read(move |connection| {
            let (conditions, values) = conditions(&query);
            let sql = format!(
                "SELECT {CERTIFICATE} FROM certificate WHERE {conditions} ORDER BY sequence DESC LIMIT ?"
            );
            let mut select = connection.prepare_cached(&sql)?;
            let rows = select.query_map(params_from_iter(values), certificate)?;
            rows.map(|row| row?).collect()
        })
    }

    fn certificate_counts(&self, now: Millis) -> Answer<CertificateCounts> {
        self.read(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT count(*) FILTER (WHERE state = 0 AND not_after > ?1),
                        count(*) FILTER (WHERE state = 1 AND not_after > ?1),
                        count(*) FILTER (WHERE state = 2),
                        count(*) FILTER (WHERE state < 2 AND not_after <= ?1) FROM certificate",
            )?;
            Ok(query.query_row([int(now)], |row| {
                Ok(CertificateCounts {
                    unconfirmed: number(row, 0)?,
                    valid: number(row, 1)?,
                    revoked: number(row, 2)?,
                    expired: number(row, 3)?,
                })
            })?)
        })
    }

    fn revoked(&self, issuer: &[u8], end_after: Millis) -> Answer<Vec<(Vec<u8>, Revocation)>> {
        let issuer = issuer.to_owned();
        self.read(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT serial, reason, revoked, revoked_by FROM certificate
                 WHERE state = 2 AND issuer = ?1 AND not_after > ?2 ORDER BY serial",
            )?;
            let rows = query.query_map(params![issuer, int(end_after)], |row| {
                let revocation = Revocation {
                    reason: row.get(1)?,
                    at: millis(row, 2)?,
                    by: row.get(3)?,
                };
                Ok((row.get(0)?, revocation))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn secret_count(&self) -> Answer<u64> {
        self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT count(*) FROM enrolment_secret")?;
            Ok(query.query_row([], |row| number(row, 0))?)
        })
    }

    fn secret(&self, reference: &[u8]) -> Answer<Option<SecretRecord>> {
        let reference = reference.to_owned();
        self.read(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {SECRET} FROM enrolment_secret WHERE reference = ?1"
            ))?;
            Ok(query.query_row([reference], secret).optional()?)
        })
    }

    fn secrets(
        &self,
        device: Option<&str>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Answer<Vec<SecretRecord>> {
        let device = device.map(str::to_owned);
        let after = after.unwrap_or_default().to_owned();
        self.read(move |connection| {
            let condition = match device {
                Some(_) => "device = ?1",
                None => "?1 IS NULL",
            };
            let mut query = connection.prepare_cached(&format!(
                "SELECT {SECRET} FROM enrolment_secret WHERE {condition} AND reference > ?2 ORDER BY reference LIMIT ?3"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = query.query_map(params![device, after, limit], secret)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn approval(&self, id: &str) -> Answer<Option<ApprovalRecord>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut query = connection
                .prepare_cached(&format!("SELECT {APPROVAL} FROM approval WHERE id = ?1"))?;
            query.query_row([id], approval).optional()?.transpose()
        })
    }

    fn approvals(
        &self,
        state: Option<ApprovalState>,
        before: Option<&str>,
        limit: usize,
    ) -> Answer<Vec<ApprovalRecord>> {
        // Identifiers are upper-case letters and digits: `~` sorts after all of them.
        let before = before.unwrap_or("~").to_owned();
        self.read(move |connection| {
            let condition = match state {
                Some(_) => "state = ?1",
                None => "?1 IS NULL",
            };
            let mut query = connection.prepare_cached(&format!(
                "SELECT {APPROVAL} FROM approval WHERE {condition} AND id < ?2 ORDER BY id DESC LIMIT ?3"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let state = state.map(approval_number);
            let rows = query.query_map(params![state, before, limit], approval)?;
            rows.map(|row| row?).collect()
        })
    }

    fn pki_document(&self, name: &str) -> Answer<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut query =
                connection.prepare_cached("SELECT value FROM pki_document WHERE name = ?1")?;
            Ok(query.query_row([name], |row| row.get(0)).optional()?)
        })
    }
}

/// The conditions of a query as SQL with its values; the limit is the last value.
fn conditions(query: &CertificateQuery) -> (String, Vec<Box<dyn ToSql>>) {
    let mut sql = vec!["sequence < ?"];
    let before = query.before.and_then(|before| i64::try_from(before).ok());
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(before.unwrap_or(i64::MAX))];
    if let Some(serial) = &query.serial {
        sql.push("serial = ?");
        values.push(Box::new(serial.clone()));
    }
    if let Some(device) = &query.device {
        sql.push("device = ?");
        values.push(Box::new(device.clone()));
    }
    if let Some(subject) = &query.subject {
        sql.push("instr(lower(subject), ?) > 0");
        values.push(Box::new(subject.to_ascii_lowercase()));
    }
    if let Some(profile) = &query.profile {
        sql.push("profile = ?");
        values.push(Box::new(profile.clone()));
    }
    if let Some(before) = query.expiring_before {
        sql.push("not_after < ? AND not_after > ?");
        values.push(Box::new(int(before)));
        values.push(Box::new(int(query.now)));
    }
    match query.state {
        None => {}
        Some(StateQuery::Revoked) => sql.push("state = 2"),
        Some(other) => {
            sql.push(match other {
                StateQuery::Unconfirmed => "state = 0 AND not_after > ?",
                StateQuery::Valid => "state = 1 AND not_after > ?",
                _ => "state < 2 AND not_after <= ?",
            });
            values.push(Box::new(int(query.now)));
        }
    }
    values.push(Box::new(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    (sql.join(" AND "), values)
}

fn certificate(row: &Row<'_>) -> rusqlite::Result<Result<CertificateRecord, StoreError>> {
    let serial: Vec<u8> = row.get(1)?;
    let corrupt = |problem: &str| {
        Ok(Err(StoreError::Corrupt {
            what: "certificate",
            id: hex(&serial),
            problem: problem.to_owned(),
        }))
    };
    let state = match row.get(3)? {
        UNCONFIRMED => CertificateState::Unconfirmed,
        VALID => CertificateState::Valid,
        REVOKED => CertificateState::Revoked,
        _ => return corrupt("unknown state"),
    };
    let revocation = match state {
        CertificateState::Revoked => Some(Revocation {
            reason: row.get(4)?,
            at: millis(row, 5)?,
            by: row.get(6)?,
        }),
        _ => None,
    };
    let Ok(fingerprint) = row.get::<_, Vec<u8>>(15)?.try_into() else {
        return corrupt("the fingerprint is not 32 bytes");
    };
    Ok(Ok(CertificateRecord {
        sequence: number(row, 0)?,
        issuer: row.get(2)?,
        state,
        revocation,
        profile: row.get(7)?,
        subject: row.get(8)?,
        device: row.get(9)?,
        requester: row.get(10)?,
        secret: row.get(11)?,
        issued: millis(row, 12)?,
        not_before: millis(row, 13)?,
        not_after: millis(row, 14)?,
        fingerprint,
        der: row.get(16)?,
        serial,
    }))
}

fn secret(row: &Row<'_>) -> rusqlite::Result<SecretRecord> {
    Ok(SecretRecord {
        reference: row.get(0)?,
        sealed: row.get(1)?,
        device: row.get(2)?,
        profile: row.get(3)?,
        uses: row.get(4)?,
        used: row.get(5)?,
        created: millis(row, 6)?,
        created_by: row.get(7)?,
        expires: optional_millis(row, 8)?,
    })
}

fn approval(row: &Row<'_>) -> rusqlite::Result<Result<ApprovalRecord, StoreError>> {
    let id: String = row.get(0)?;
    let corrupt = |problem: &str| {
        Ok(Err(StoreError::Corrupt {
            what: "approval",
            id: id.clone(),
            problem: problem.to_owned(),
        }))
    };
    let state = match row.get::<_, i64>(1)? {
        0 => ApprovalState::Pending,
        1 => ApprovalState::Approved,
        2 => ApprovalState::Denied,
        3 => ApprovalState::Used,
        _ => return corrupt("unknown state"),
    };
    let decision = match optional_millis(row, 10)? {
        Some(at) => Some(Decision {
            approved: state != ApprovalState::Denied,
            by: row.get(11)?,
            at,
            reason: row.get(12)?,
        }),
        None => None,
    };
    let Ok(key) = row.get::<_, Vec<u8>>(6)?.try_into() else {
        return corrupt("the key's digest is not 32 bytes");
    };
    Ok(Ok(ApprovalRecord {
        state,
        profile: row.get(2)?,
        subject: row.get(3)?,
        device: row.get(4)?,
        requester: row.get(5)?,
        key,
        request: row.get(7)?,
        created: millis(row, 8)?,
        expires: millis(row, 9)?,
        decision,
        serial: row.get(13)?,
        id,
    }))
}

fn state_number(state: CertificateState) -> i64 {
    match state {
        CertificateState::Unconfirmed => UNCONFIRMED,
        CertificateState::Valid => VALID,
        CertificateState::Revoked => REVOKED,
    }
}

fn approval_number(state: ApprovalState) -> i64 {
    match state {
        ApprovalState::Pending => 0,
        ApprovalState::Approved => 1,
        ApprovalState::Denied => 2,
        ApprovalState::Used => 3,
    }
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

fn millis(row: &Row<'_>, column: usize) -> rusqlite::Result<Millis> {
    let time: i64 = row.get(column)?;
    Ok(Millis(u64::try_from(time).unwrap_or(0)))
}

fn optional_millis(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Millis>> {
    let time: Option<i64> = row.get(column)?;
    Ok(time.map(|time| Millis(u64::try_from(time).unwrap_or(0))))
}
