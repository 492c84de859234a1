//! The Python side: Django's settings, a Celery worker of its own process, and what must arrive of what they publish.

use std::process::{Command, Stdio};

use crate::{
    FOLDER,
    support::{eventually, hub::Process, installed, publisher::Publisher, redis::Redis},
};

const EVENTS: usize = 20;
const TASKS: usize = 5;

pub struct Publishers {
    environment: Vec<(&'static str, String)>,
    redis_port: u16,
    worker: Process,
}

impl Publishers {
    /// Waits for the Celery worker.
    pub fn start(redis_port: u16, celery: &Redis) -> Self {
        let environment = vec![
            ("CALLBOARD_TEST_REDIS", format!("127.0.0.1:{redis_port}")),
            ("CALLBOARD_TEST_CELERY", format!("{}/1", celery.url())),
            ("DJANGO_SETTINGS_MODULE", "settings".to_owned()),
            ("PYTHONPATH", format!("{FOLDER}/publishers")),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ];
        let mut command = python(&environment);
        command.args(["-m", "celery", "-A", "tasks", "worker", "--pool", "solo", "--loglevel", "INFO", "--without-gossip"]);
        command.args(["--without-mingle", "--without-heartbeat"]);
        let mut worker = Process::spawn(command);
        eventually("the Celery worker is ready", || {
            assert!(worker.is_running(), "it ended: {}", worker.log());
            worker.log().contains(" ready.").then_some(())
        });
        Self { environment, redis_port, worker }
    }

    /// One way after the other. Returns the names and data that every client must have heard, in this order.
    pub fn publish_in_every_way(&self) -> Vec<(String, String)> {
        let mut expected = Vec::new();
        let mut expect = |name: &str, data: String| expected.push((name.to_owned(), data));
        self.run("send", EVENTS);
        (0..EVENTS).for_each(|n| expect("myevent", format!(r#"{{"n": {n}, "text": "\u00e9\u6f22\n"}}"#)));
        self.run("queue", TASKS);
        eventually("the worker did its tasks", || (self.worker.log().matches(" succeeded in ").count() == TASKS).then_some(()));
        for n in 0..TASKS {
            expect("imported", format!(r#"{{"n": {n}, "by": "celery"}}"#));
            expect("imported_too", n.to_string());
        }
        self.run("emit", EVENTS);
        (0..EVENTS).for_each(|n| expect("myevent", n.to_string()));
        Publisher::connect(self.redis_port).publish("callboard:room:sse", r#"{"event":"end","data":0}"#);
        expect("end", "0".to_owned());
        expected
    }

    fn run(&self, way: &str, count: usize) {
        let mut command = python(&self.environment);
        command.arg(format!("{FOLDER}/publishers/publish.py")).args([way, &count.to_string()]);
        let mut process = Process::spawn(command);
        assert!(process.wait().success(), "{way}: {}", process.log());
    }
}

pub fn python(environment: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(installed("CALLBOARD_TEST_PYTHON"));
    command.stdin(Stdio::null()).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}
