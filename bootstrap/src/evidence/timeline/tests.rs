use super::*;
use crate::evidence::event::{CheckResult, CheckStatus, Claim, StepStatus};

fn note(text: &str) -> What {
    What::Note { text: text.to_owned() }
}

fn written() -> (tempfile::TempDir, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let mut timeline = Timeline::create(directory.path(), "host").unwrap();
    timeline.add(Actor::Tool, None, note("one")).unwrap();
    let begin = What::StepBegin { phase: "precheck".into(), title: "look".into(), timebox_ms: Some(5) };
    timeline.add(Actor::Tool, Some("look"), begin).unwrap();
    let check = CheckResult {
        id: "rto".into(),
        status: CheckStatus::Passed,
        claim: Claim::Asserted,
        observed: "1".into(),
        expected: "2".into(),
        source: String::new(),
    };
    timeline.add(Actor::Tool, Some("look"), What::Check(check)).unwrap();
    let end = What::StepEnd { status: StepStatus::Ok, error: None, evidence: vec![] };
    timeline.add(Actor::Human, Some("look"), end).unwrap();
    let bytes = std::fs::read(directory.path().join(FILE)).unwrap();
    (directory, bytes)
}

#[test]
fn what_was_added_is_read_back_in_order() {
    let (_directory, bytes) = written();
    let events = read(&bytes, FILE).unwrap();
    assert_eq!(events.iter().map(|event| event.i).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(events[0].what, note("one"));
    assert_eq!((events[3].actor, events[3].step.as_deref()), (Actor::Human, Some("look")));
    assert!(events.is_sorted_by_key(|event| event.mono_us));
}

#[test]
fn a_line_that_was_changed_taken_out_or_moved_is_refused() {
    let (_directory, bytes) = written();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let refused = |lines: &[&str]| read(format!("{}\n", lines.join("\n")).as_bytes(), FILE).unwrap_err().class();
    assert_eq!(refused(&[&lines[0].replace("one", "two"), lines[1], lines[2], lines[3]]), Class::Hash);
    assert_eq!(refused(&[lines[0], lines[2], lines[3]]), Class::Seq);
    assert_eq!(refused(&[lines[0], lines[2], lines[1], lines[3]]), Class::Seq);
    assert_eq!(refused(&[lines[0], lines[1], lines[2], "{}"]), Class::Json);
    let unknown = lines[3].replace("step-end", "step-ends");
    assert_eq!(refused(&[lines[0], lines[1], lines[2], &unknown]), Class::Json);
    let more = lines[3].replace("\"status\":\"ok\"", "\"status\":\"ok\",\"extra\":1");
    assert_eq!(refused(&[lines[0], lines[1], lines[2], &more]), Class::Json);
    // The end can be cut off by whoever has no bundle to compare with: the index and its signature hold the length.
    assert!(read(format!("{}\n", lines[..3].join("\n")).as_bytes(), FILE).is_ok());
}

#[test]
fn a_torn_line_is_cut_off_and_the_run_goes_on() {
    let (directory, bytes) = written();
    std::fs::write(directory.path().join(FILE), &bytes[..bytes.len() - 10]).unwrap();
    assert_eq!(read(&bytes[..bytes.len() - 10], FILE).unwrap_err().class(), Class::Json);
    let (events, mut timeline) = Timeline::resume(directory.path(), "host").unwrap();
    assert_eq!(events.len(), 3);
    timeline.add(Actor::Tool, None, note("later")).unwrap();
    let events = read(&std::fs::read(timeline.path()).unwrap(), FILE).unwrap();
    let torn = events[3].what.clone();
    assert!(matches!(torn, What::Resume { torn_bytes } if torn_bytes > 0), "{torn:?}");
    assert_eq!(events[4].what, note("later"));
}

#[test]
fn a_second_timeline_does_not_replace_the_first() {
    let (directory, bytes) = written();
    assert_eq!(Timeline::create(directory.path(), "host").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(directory.path().join(FILE)).unwrap(), bytes);
}
