//! Autobahn's cases for WebSocket servers (RFC 6455), by way of kosoku, against the hidden echo endpoint. Compression (12 and
//! 13) is not offered.

use std::process::Command;

use crate::support::{
    hub::{Process, Setup},
    unique_dir,
};

#[test]
fn autobahn_finds_nothing() {
    let python = std::env::var_os("CALLBOARD_TEST_PYTHON").expect("./scripts/test installs kosoku and sets CALLBOARD_TEST_PYTHON");
    let hub = Setup::new("").argument("--conformance").start();
    let reports = unique_dir("autobahn");
    let mut command = Command::new(python);
    command.args(["-c", "from kosoku._cli import main; main()", &format!("ws://{}/echo", hub.address)]);
    command.args(["--exclude", "12.*", "--exclude", "13.*", "--parallelism", "4", "--outdir"]).arg(&reports);
    let mut suite = Process::spawn(command);
    assert!(suite.wait().success(), "{}", suite.log());
    let index = std::fs::read_to_string(reports.join("index.json")).expect("the report");
    let index: serde_json::Value = serde_json::from_str(&index).expect("the report in JSON");
    let cases: Vec<_> = index.as_object().expect("agents").values().flat_map(|agent| agent.as_object().expect("cases")).collect();
    assert_eq!(cases.len(), 301);
    for (case, result) in cases {
        let (behavior, close) = (result["behavior"].as_str(), result["behaviorClose"].as_str());
        assert!(matches!(behavior, Some("OK" | "NON-STRICT" | "INFORMATIONAL")), "{case}: {result}");
        assert!(matches!(close, Some("OK" | "INFORMATIONAL")), "{case}: {result}");
    }
}
