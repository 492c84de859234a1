//! SIGHUP: the configuration is read again. What can change does, without a connection dropped; a mistake changes nothing.

use std::sync::Arc;

use super::{HubError, core, sources, tls::Certificate};
use crate::{
    config::{Config, ConfigError},
    http::door::Door,
};

/// Reads the configuration as at start: the same file, the same environment.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, ConfigError>>;

/// Goes by the configuration as it is written now. Nothing is changed before everything has been read.
pub fn reload(read: &ReadConfig, door: &Door, certificate: Option<&Certificate>) -> Result<(), ReloadError> {
    let mut config = read()?;
    sources(&config)?;
    let forward = core::forward(&config)?;
    let old = door.config();
    let waiting = keep_what_is_open(&old, &mut config);
    door.keyring.replace(config.auth.jwt.as_ref()).map_err(HubError::Key)?;
    if let (Some(certificate), Some(tls)) = (certificate, &config.server.tls)
        && let Err(error) = certificate.replace(tls)
    {
        // The keys were read a moment ago.
        door.keyring.replace(old.auth.jwt.as_ref()).map_err(HubError::Key)?;
        return Err(HubError::Tls(error).into());
    }
    let forward = if config.auth.forward == old.auth.forward { door.forward() } else { forward };
    door.change(Arc::new(config), forward);
    log::info!("the configuration was read again and holds from now on");
    if !waiting.is_empty() {
        log::warn!("changes of {} wait for the next start", waiting.join(", "));
    }
    Ok(())
}

/// Why nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Hub(#[from] HubError),
}

/// Puts back what was opened or started with the old configuration, and names it.
fn keep_what_is_open(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut waiting = Vec::new();
    let mut keep = |name, is_changed: bool| {
        if is_changed {
            waiting.push(name);
        }
    };
    let (was, is) = (&old.server, &mut new.server);
    keep("server.bind", was.bind != is.bind);
    keep("server.workers", was.workers != is.workers);
    keep("server.tcp_user_timeout", was.tcp_user_timeout != is.tcp_user_timeout);
    keep("server.send_buffer", was.send_buffer != is.send_buffer);
    keep("server.tls", was.tls.is_some() != is.tls.is_some());
    keep("broker", old.broker != new.broker);
    keep("mailbox", old.mailbox != new.mailbox);
    keep("socketio", old.socketio != new.socketio);
    keep("[[source]]", old.sources != new.sources);
    is.bind.clone_from(&was.bind);
    is.workers = was.workers;
    is.tcp_user_timeout = was.tcp_user_timeout;
    is.send_buffer = was.send_buffer;
    new.broker.clone_from(&old.broker);
    new.mailbox.clone_from(&old.mailbox);
    new.socketio.clone_from(&old.socketio);
    new.sources.clone_from(&old.sources);
    waiting
}
