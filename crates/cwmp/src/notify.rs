//! Which parameters are watched, and what of their changes is still to be told (TR-069 A.3.2.4, §3.7.1.5).
//!
//! A parameter is told when its value is another than the ACS knows, and the ACS did not make it so. What a session tells counts as known when its
//! Inform was answered; what changes meanwhile is told by the next.

use std::collections::BTreeMap;

use crate::message::Notification;

/// Who made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The ACS, by SetParameterValues or what follows from it: it knows.
    Acs,
    /// Anybody else: a person, another protocol, the device itself.
    Other,
}

/// What follows from a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// The next session tells it: [`crate::cpe::Cpe::note`] a VALUE CHANGE.
    Tell,
    /// A session tells it now: [`crate::cpe::Cpe::raise`] a VALUE CHANGE.
    TellAtOnce,
}

/// As many parameters are watched as may be: 9004.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many parameters are watched as may be")]
pub struct TooMany;

/// The watched parameters of a device.
#[derive(Clone, Debug, Default)]
pub struct Notifications {
    most: usize,
    watched: BTreeMap<String, Watched>,
}

/// A watched parameter as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What is told.
    pub notification: Notification,
    /// The value that the ACS knows.
    pub known: String,
    /// The value that it does not know yet.
    changed: Option<String>,
    /// What the session that goes on tells.
    sent: Option<String>,
}

impl Notifications {
    /// Nothing is watched, and at most `most` parameters will be.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            watched: BTreeMap::new(),
        }
    }

    /// Sets the attribute of a parameter with its value now. One that is not told in an Inform is not watched any more.
    ///
    /// # Errors
    /// When too many are watched.
    pub fn set(
        &mut self,
        path: &str,
        notification: Notification,
        value: &str,
    ) -> Result<(), TooMany> {
        if !notification.is_informed() {
            self.watched.remove(path);
            return Ok(());
        }
        if let Some(watched) = self.watched.get_mut(path) {
            watched.notification = notification;
            return Ok(());
        }
        if self.watched.len() >= self.most {
            return Err(TooMany);
        }
        self.restore(path, notification, value);
        Ok(())
    }

    /// A parameter as it was stored, with the value that the ACS knows. Tell its value now by [`Notifications::changed`]: it may have
    /// changed while the device was off.
    pub fn restore(&mut self, path: &str, notification: Notification, known: &str) {
        let watched = Watched {
            notification,
            known: known.to_owned(),
            changed: None,
            sent: None,
        };
        self.watched.insert(path.to_owned(), watched);
    }

    /// A parameter's value is `value` now.
    pub fn changed(&mut self, path: &str, value: &str, author: Author) -> Effect {
        let Some(watched) = self.watched.get_mut(path) else {
            return Effect::Nothing;
        };
        if author == Author::Acs {
            value.clone_into(&mut watched.known);
            watched.changed = None;
            watched.sent = None;
            return Effect::Nothing;
        }
        let last = watched.changed.as_ref().unwrap_or(&watched.known);
        if last == value {
            return Effect::Nothing;
        }
        // There and back again is a change too: what lay between may have mattered.
        watched.changed = Some(value.to_owned());
        match watched.notification.is_active() {
            true => Effect::TellAtOnce,
            false => Effect::Tell,
        }
    }

    /// A parameter is gone, with its attributes.
    pub fn remove(&mut self, path: &str) {
        self.watched.remove(path);
    }

    /// An Inform is being made: the parameters that it has to tell, with their values.
    pub fn include(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (path, watched) in &mut self.watched {
            watched.sent.clone_from(&watched.changed);
            if let Some(value) = &watched.changed {
                all.push((path.clone(), value.clone()));
            }
        }
        all
    }

    /// The Inform was answered: what it told is known. Whether something has changed since.
    pub fn delivered(&mut self) -> bool {
        let mut more = false;
        for watched in self.watched.values_mut() {
            if let Some(sent) = watched.sent.take() {
                if watched.changed.as_ref() == Some(&sent) {
                    watched.changed = None;
                }
                watched.known = sent;
            }
            more |= watched.changed.is_some();
        }
        more
    }

    /// The session failed before that: all is still to be told.
    pub fn failed(&mut self) {
        for watched in self.watched.values_mut() {
            watched.sent = None;
        }
    }

    /// The attribute of a parameter.
    pub fn notification(&self, path: &str) -> Notification {
        let watched = self.watched.get(path);
        watched.map_or(Notification::Off, |watched| watched.notification)
    }

    /// All, to be stored.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Watched)> {
        self.watched
            .iter()
            .map(|(path, watched)| (path.as_str(), watched))
    }
}
