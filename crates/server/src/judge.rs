//! What judges credentials: the configuration, and a key set that is fetched.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidecast_auth::{Authenticator, KeyMaterial, Settings};
use tidecast_worker::{Config, Mesh, Order};

use crate::jwks::KeysWanted;

/// Makes the workers' settings of the configuration and of the keys that are known, and tells them when either changes.
///
/// It belongs to the control plane: its lock is held for moments, and no worker takes it.
pub(crate) struct Judge {
    wanted: Arc<KeysWanted>,
    state: Mutex<State>,
}

struct State {
    /// The workers' settings, with what judges by the keys that are known.
    config: Arc<Config>,
    credentials: Settings,
    /// The key set that was fetched last.
    keys: Option<String>,
    /// The way to the workers, once there are any.
    mesh: Option<Arc<Mesh>>,
}

impl Judge {
    /// By a configuration; no keys have been fetched.
    pub(crate) fn new(config: Config, credentials: Settings) -> Judge {
        let judge = Judge {
            wanted: Arc::default(),
            state: Mutex::new(State {
                config: Arc::new(config.clone()),
                credentials: credentials.clone(),
                keys: None,
                mesh: None,
            }),
        };
        judge.configure(config, credentials);
        judge
    }

    /// Rings when a token names a key that is not known.
    pub(crate) fn wanted(&self) -> &Arc<KeysWanted> {
        &self.wanted
    }

    /// What workers are to be started with.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.state().config)
    }

    /// The workers that were started with `config` are told from now on, and at once if something has changed since.
    pub(crate) fn attach(&self, mesh: &Arc<Mesh>, config: &Arc<Config>) {
        let mut state = self.state();
        state.mesh = Some(Arc::clone(mesh));
        if !Arc::ptr_eq(config, &state.config) {
            state.tell();
        }
    }

    /// Takes another configuration over. The keys that were fetched stay as long as that asks for any.
    pub(crate) fn configure(&self, config: Config, credentials: Settings) {
        let mut state = self.state();
        let made = state.authenticator(&credentials, state.keys.as_deref());
        let made = made.unwrap_or_else(|_| {
            // There are too many keys together: the configuration goes before what was fetched.
            state.keys = None;
            Authenticator::new(&credentials).expect("it was made of them before")
        });
        state.credentials = credentials;
        state.install(config, made, &self.wanted);
    }

    /// Takes a key set over that was fetched.
    ///
    /// # Errors
    /// It is none that can be used; the last one stays.
    pub(crate) fn take_keys(&self, document: String) -> Result<(), String> {
        let mut state = self.state();
        let made = state.authenticator(&state.credentials, Some(&document))?;
        state.keys = Some(document);
        let config = Config::clone(&state.config);
        state.install(config, made, &self.wanted);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What judges by these settings, with this key set where they await one.
    fn authenticator(&self, credentials: &Settings, keys: Option<&str>) -> Result<Authenticator, String> {
        let mut settings = credentials.clone();
        for key in settings.jwt.iter_mut().flat_map(|jwt| &mut jwt.keys) {
            if let (KeyMaterial::Awaited, Some(keys)) = (&key.material, keys) {
                key.material = KeyMaterial::Jwks(keys.to_owned());
            }
        }
        Authenticator::new(&settings).map_err(|error| error.problem.to_string())
    }

    fn install(&mut self, config: Config, authenticator: Authenticator, wanted: &Arc<KeysWanted>) {
        let wanted = Arc::clone(wanted);
        self.config = Arc::new(Config {
            authenticator: Arc::new(authenticator.on_unknown_key(move || wanted.ask())),
            ..config
        });
        self.tell();
    }

    fn tell(&self) {
        if let Some(mesh) = &self.mesh {
            for worker in 0..mesh.workers() {
                mesh.order(worker, Order::Configure(Arc::clone(&self.config)));
            }
        }
    }
}
