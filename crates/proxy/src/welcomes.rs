//! How clients are welcomed: what a server of a pool reports of itself to those who log in with the same settings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use route::Settings;

use crate::threads::lock;

/// Settings of clients for which it is remembered how a server reports them.
const SETTINGS_MAX: usize = 64;

/// What a server reports of itself (ParameterStatus).
pub type Reported = Arc<BTreeMap<String, String>>;

/// Of one pool.
#[derive(Debug, Default)]
pub struct Welcomes(Mutex<BTreeMap<Settings, Reported>>);

impl Welcomes {
    /// What clients with these settings are told, if one was in before.
    #[must_use]
    pub fn get(&self, settings: &Settings) -> Option<Reported> {
        lock(&self.0).get(settings).cloned()
    }

    /// A server reports this of itself, set up with these settings.
    pub fn learn(&self, settings: Arc<Settings>, reported: Reported) {
        let mut all = lock(&self.0);
        if all.len() >= SETTINGS_MAX {
            all.retain(|settings, _| settings.is_empty());
        }
        all.insert(Arc::unwrap_or_clone(settings), reported);
    }

    /// A fresh server reports this of itself. If it is another one, or was set up anew, the rest is to be asked
    /// for again.
    pub fn opened(&self, fresh: &Reported) {
        if self.get(&Settings::new()).is_none_or(|known| known != *fresh) {
            lock(&self.0).clear();
            self.learn(Arc::default(), fresh.clone());
        }
    }
}
