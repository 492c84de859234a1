//! Forward auth: the application says who a client is. The hub passes on what identifies it (its cookies, usually) and takes
//! the answer.
//!
//! After a deployment thousands return at once, and many tabs share a session. So there is one question at a time for the same
//! headers however many wait for it, the answer holds for `auth.forward.cache`, and no more than [`MAX_QUESTIONS`] are open. One
//! instance per process; a question runs as its own task, so that it does not die with the client that happened to cause it.
//!
//! A grant without an end is asked about again while its client is connected: who logs out is heard of in the end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{
    client::{self, FetchError},
    error::ApiError,
    verdict::{Verdict, read},
};
use crate::{
    auth::{AuthError, Identity, Recheck, Standing, unix_now},
    config::Forward,
    protocol::ErrorCode,
};

/// Questions to the application at a time. More wait, within `auth.forward.timeout`.
const MAX_QUESTIONS: usize = 64;
/// Answers kept. More are not kept, and each client is asked about.
const MAX_ANSWERS: usize = 50_000;
/// Fewer answers than this are not searched for those that no longer hold.
const FIRST_SWEEP: usize = 1_000;
/// How long a failure holds: short, yet a backend that is down is not asked by every client.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

pub struct ForwardAuth {
    config: Forward,
    names: Vec<HeaderName>,
    /// Of this process alone: what the headers are remembered by, so that none can be looked up who is not here.
    digest_key: EncodingKey,
    answers: Mutex<Answers>,
    questions: Semaphore,
}

type Digest = String;

enum Entry {
    Asking(watch::Receiver<Option<Verdict>>),
    Answered { verdict: Verdict, until: Instant },
}

/// What a look among the answers found.
enum Known {
    Answered(Verdict),
    /// Somebody asks already.
    Asked(watch::Receiver<Option<Verdict>>),
    /// Whoever looked is to ask, and to say here what it heard.
    Nothing(watch::Sender<Option<Verdict>>),
}

struct Answers {
    entries: HashMap<Digest, Entry>,
    /// At so many, those that no longer hold are taken out.
    sweep_at: usize,
}

impl Answers {
    /// Its cost is shared by as many new answers as it looks at.
    fn sweep(&mut self, now: Instant) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, entry| !matches!(entry, Entry::Answered { until, .. } if *until <= now));
            self.sweep_at = (self.entries.len() * 2).clamp(FIRST_SWEEP, MAX_ANSWERS);
        }
    }
}

/// The headers that identify a client.
#[derive(Clone)]
pub struct Credentials(Vec<(HeaderName, HeaderValue)>);

impl ForwardAuth {
    pub fn new(config: &Forward) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        // The configuration holds valid header names only.
        let names = config.headers.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()).collect();
        Ok(Self {
            config: config.clone(),
            names,
            digest_key: EncodingKey::from_secret(&key),
            answers: Mutex::new(Answers { entries: HashMap::new(), sweep_at: FIRST_SWEEP }),
            questions: Semaphore::new(MAX_QUESTIONS),
        })
    }

    /// What the request brings; `None` if it has none of the headers, and then there is nothing to ask.
    pub fn credentials(&self, request: &HttpRequest) -> Option<Credentials> {
        let of_name = |name: &HeaderName| {
            let values = request.headers().get_all(name);
            // Not a part of the request's buffer: they may outlive it by hours.
            values.filter_map(|value| Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))).collect::<Vec<_>>()
        };
        let found: Vec<_> = self.names.iter().flat_map(of_name).collect();
        (!found.is_empty()).then_some(Credentials(found))
    }

    /// Who the client is, as the application says or has just said.
    pub async fn identify(self: &Arc<Self>, credentials: Credentials) -> Result<Arc<Identity>, ApiError> {
        let unavailable = || ApiError::new(ErrorCode::AuthUnavailable, "the application does not say who you are, try again");
        match self.ask(credentials).await {
            Verdict::Granted(identity) if identity.expires_at.is_some_and(|end| end <= unix_now()) => Err(AuthError::Expired.into()),
            Verdict::Granted(identity) => Ok(identity),
            Verdict::Unauthorized => Err(ApiError::new(ErrorCode::Unauthorized, "the application does not know you")),
            Verdict::Forbidden => Err(ApiError::new(ErrorCode::Forbidden, "the application does not let you in")),
            Verdict::Unavailable => Err(unavailable()),
        }
    }

    async fn ask(self: &Arc<Self>, credentials: Credentials) -> Verdict {
        // Signing with a symmetric key does not fail; if it did, nobody would be admitted.
        let Some(digest) = self.digest(&credentials) else { return Verdict::Unavailable };
        let mut waiting = match self.look_up(&digest) {
            Known::Answered(verdict) => return verdict,
            Known::Asked(waiting) => waiting,
            Known::Nothing(sender) => {
                let waiting = sender.subscribe();
                let this = Arc::clone(self);
                actix_web::rt::spawn(async move {
                    let verdict = this.question(&credentials).await;
                    let verdict = this.with_recheck(verdict, credentials);
                    this.remember(digest, &verdict);
                    sender.send_replace(Some(verdict));
                });
                waiting
            }
        };
        let answered = waiting.wait_for(Option::is_some).await;
        answered.map_or(Verdict::Unavailable, |verdict| verdict.clone().unwrap_or(Verdict::Unavailable))
    }

    /// A grant that the application did not limit is asked about again.
    fn with_recheck(self: &Arc<Self>, verdict: Verdict, credentials: Credentials) -> Verdict {
        let identity = match &verdict {
            Verdict::Granted(identity) if identity.expires_at.is_none() && !self.config.recheck.is_zero() => Identity::clone(identity),
            _ => return verdict,
        };
        let this = Arc::downgrade(self);
        let recheck = Recheck::new(spread(self.config.recheck), move || stands(Weak::clone(&this), credentials.clone()).boxed_local());
        Verdict::Granted(Arc::new(Identity { recheck: Some(recheck), ..identity }))
    }

    /// What is known; where that is nothing, whoever looks has the question noted as its own. All under one lock: other workers
    /// look at the same time.
    fn look_up(&self, digest: &Digest) -> Known {
        let mut answers = self.lock();
        match answers.entries.get(digest) {
            Some(Entry::Answered { verdict, until }) if *until > Instant::now() => Known::Answered(verdict.clone()),
            // Its task may have died with its thread.
            Some(Entry::Asking(waiting)) if waiting.has_changed().is_ok() => Known::Asked(waiting.clone()),
            _ => {
                let (sender, waiting) = watch::channel(None);
                answers.entries.insert(digest.clone(), Entry::Asking(waiting));
                Known::Nothing(sender)
            }
        }
    }

    /// Each value with its length before it, so that no two lists of headers look alike.
    fn digest(&self, Credentials(headers): &Credentials) -> Option<Digest> {
        let mut message = Vec::new();
        for (name, value) in headers {
            message.extend_from_slice(format!("{name}:{}:", value.len()).as_bytes());
            message.extend_from_slice(value.as_bytes());
        }
        crypto::sign(&message, &self.digest_key, Algorithm::HS256).ok()
    }

    async fn question(&self, Credentials(headers): &Credentials) -> Verdict {
        let deadline = Instant::now() + self.config.timeout;
        let asked = async {
            // The semaphore is never closed.
            let _permit = self.questions.acquire().await;
            client::get(self.config.url.expose(), headers, deadline.saturating_duration_since(Instant::now())).await
        };
        let answer = timeout_at(deadline, asked).await.unwrap_or(Err(FetchError::TimedOut(self.config.timeout)));
        match answer.map_err(|error| error.to_string()).and_then(|answer| read(&answer)) {
            Ok(verdict) => verdict,
            Err(problem) => {
                log::warn!("auth.forward: {}: {problem}", self.config.url);
                Verdict::Unavailable
            }
        }
    }

    fn remember(&self, digest: Digest, verdict: &Verdict) {
        let holds = if matches!(verdict, Verdict::Unavailable) { self.config.cache.min(FAILURE_HOLDS) } else { self.config.cache };
        let mut answers = self.lock();
        let now = Instant::now();
        answers.sweep(now);
        if holds.is_zero() || answers.entries.len() > MAX_ANSWERS {
            answers.entries.remove(&digest);
        } else {
            answers.entries.insert(digest, Entry::Answered { verdict: verdict.clone(), until: now + holds });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the application says of a client that is connected. Another configuration has taken its place: it asks about who
/// comes from now on, and those who are here stay.
async fn stands(forward: Weak<ForwardAuth>, credentials: Credentials) -> Standing {
    let Some(forward) = forward.upgrade() else { return Standing::Unknown };
    match forward.ask(credentials).await {
        Verdict::Granted(identity) => Standing::Granted(identity),
        Verdict::Unauthorized | Verdict::Forbidden => Standing::Denied,
        Verdict::Unavailable => Standing::Unknown,
    }
}

/// A time in the second half of this span: who came at once after a restart is not asked about at once.
fn spread(span: Duration) -> Duration {
    let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
    span.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn forward() -> ForwardAuth {
        let text = "[auth.forward]\nurl = 'http://127.0.0.1:9/'";
        let config = Config::read(Some((Path::new("config.toml"), text)), std::iter::empty()).expect("a configuration");
        ForwardAuth::new(&config.auth.forward.expect("it is set")).expect("randomness")
    }

    #[test]
    fn the_first_who_looks_asks_and_no_other_before_the_answer() {
        let (forward, digest) = (forward(), Digest::from("a session"));
        let Known::Nothing(question) = forward.look_up(&digest) else { panic!("nothing is known yet") };
        assert!(matches!(forward.look_up(&digest), Known::Asked(_)), "before whoever asks has done anything more");
        drop(question);
        assert!(matches!(forward.look_up(&digest), Known::Nothing(_)), "a question that died is asked again");
    }

    #[test]
    fn workers_that_look_at_once_ask_one_question() {
        let forward = forward();
        for round in 0..200 {
            let (digest, start) = (round.to_string(), std::sync::Barrier::new(4));
            let look = || {
                start.wait();
                forward.look_up(&digest)
            };
            let found: Vec<Known> = std::thread::scope(|scope| {
                let workers: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
                workers.into_iter().map(|worker| worker.join().expect("a look")).collect()
            });
            let questions = found.iter().filter(|known| matches!(known, Known::Nothing(_))).count();
            assert_eq!(questions, 1, "in round {round}");
        }
    }
}
