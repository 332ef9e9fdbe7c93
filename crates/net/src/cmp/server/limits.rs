//! How much clients may ask for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::CoapConfig;
use crate::dtls::{self, Budgets, OverBudget};

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Its sender asks for too much.
    Client,
    /// All together do.
    All,
}

/// Rates, and requests under way.
pub(super) struct Limits {
    max: usize,
    max_per_client: usize,
    state: Mutex<State>,
}

struct State {
    /// Over `coap`, over `coaps`.
    budgets: [Budgets; 2],
    total: usize,
    under_way: HashMap<IpAddr, usize>,
}

impl Limits {
    pub(super) fn new(config: &CoapConfig) -> Self {
        let budgets = || {
            Budgets::new(&dtls::Config {
                prefix_budget: config.client_budget,
                global_budget: config.budget,
                ..config.dtls.clone()
            })
        };
        Self {
            max: config.max_under_way,
            max_per_client: config.max_under_way_per_client,
            state: Mutex::new(State {
                budgets: [budgets(), budgets()],
                total: 0,
                under_way: HashMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one request, held until it is answered.
    pub(super) fn take(
        self: &Arc<Self>,
        now: Instant,
        from: SocketAddr,
        secure: bool,
    ) -> Result<Place, Over> {
        let client = from.ip().to_canonical();
        let mut state = self.lock();
        if state.total >= self.max {
            return Err(Over::All);
        }
        if state.under_way.get(&client).copied().unwrap_or_default() >= self.max_per_client {
            return Err(Over::Client);
        }
        let [plain, protected] = &mut state.budgets;
        let budgets = if secure { protected } else { plain };
        budgets.take_proven(now, from).map_err(|over| match over {
            OverBudget::Prefix => Over::Client,
            OverBudget::Global => Over::All,
        })?;
        state.total += 1;
        *state.under_way.entry(client).or_default() += 1;
        Ok(Place {
            limits: self.clone(),
            client,
        })
    }
}

/// A request under way.
pub(super) struct Place {
    limits: Arc<Limits>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.limits.lock();
        state.total = state.total.saturating_sub(1);
        if let Some(count) = state.under_way.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                state.under_way.remove(&self.client);
            }
        }
    }
}
