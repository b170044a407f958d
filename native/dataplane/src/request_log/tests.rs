use std::path::Path;

use super::*;
use crate::wire::{DType, Signature, TensorSpec};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("servable-request-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn bytes(&self) -> u64 {
        self.files().iter().map(|file| file.metadata().unwrap().len()).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(folder: &Path, format: Format, max_bytes: u64) -> LogSettings {
    LogSettings { prefix: folder.join("requests"), sample: 1.0, format, max_bytes }
}

fn signature() -> Arc<Signature> {
    let spec =
        |name: &str| TensorSpec { name: name.to_owned(), tensor_name: name.to_owned(), dtype: DType::F32, shape: None };
    Arc::new(Signature {
        name: "serving_default".to_owned(),
        inputs: vec![spec("x")],
        outputs: vec![spec("y"), spec("z")],
        ..Signature::default()
    })
}

fn log_one(log: &Arc<ModelLog>, values: &[f32]) {
    let tensor = Tensor::from_vec([values.len() as i64].into_iter().collect(), values.to_vec()).unwrap();
    let source = Source::new(7, &signature());
    log.predict(source, vec![tensor.clone()], [0].into_iter().collect(), &[tensor]);
}

fn records(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        rest = &rest[8 + 4 + length + 4..];
        count += 1;
    }
    count
}

#[test]
fn what_was_logged_is_in_the_file_when_the_log_is_closed() {
    let folder = Folder::new("closed");
    let logs = RequestLogs::default();
    let log = logs.of("digits", Some(settings(&folder.0, Format::Tfrecord, 1 << 20))).unwrap();
    (0..100).for_each(|_| log_one(&log, &[1.5, 2.5]));
    logs.close();
    let [file] = &folder.files()[..] else { panic!("one file: {:?}", folder.files()) };
    assert_eq!(records(&std::fs::read(file).unwrap()), 100);
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut page = String::new();
    logs.write_metrics(&mut page);
    assert!(page.contains(":tensorflow:serving:request_log_count{model_name=\"digits\",status_code=\"OK\"} 100"));
}

#[test]
fn a_line_of_json_says_what_was_asked_and_answered_by_which_version() {
    let folder = Folder::new("json");
    let logs = RequestLogs::default();
    let log = logs.of("digits", Some(settings(&folder.0, Format::Json, 1 << 20))).unwrap();
    log_one(&log, &[1.5, f32::NAN]);
    logs.close();
    let text = std::fs::read_to_string(&folder.files()[0]).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    let spec = &line["logMetadata"]["modelSpec"];
    assert_eq!((&spec["name"], &spec["version"]), (&"digits".into(), &"7".into()));
    let request = &line["predictLog"]["request"];
    assert_eq!(request["modelSpec"]["version"], serde_json::Value::Null);
    assert_eq!(request["outputFilter"], serde_json::json!(["y"]));
    assert_eq!(request["inputs"]["x"]["dtype"], 1);
    assert_eq!(line["predictLog"]["response"]["outputs"]["y"]["floatVal"], serde_json::json!([1.5, "NaN"]));
}

#[test]
fn all_files_together_stay_under_their_limit_and_the_newest_records_stay() {
    let folder = Folder::new("rotated");
    let mut files = LogFiles::new(&settings(&folder.0, Format::Json, 1000));
    for number in 0..500 {
        files.push(format!("{number:09}\n").as_bytes()).unwrap();
        files.flush().unwrap();
        assert!(folder.bytes() <= 1000);
    }
    assert!(folder.bytes() > 700);
    assert!(std::fs::read_to_string(folder.files().last().unwrap()).unwrap().ends_with("000000499\n"));
    assert!(folder.files().len() > 4);
}

#[test]
fn files_of_an_earlier_run_count_and_those_of_others_are_left_alone() {
    let folder = Folder::new("earlier");
    let old = folder.0.join("requests-20200101-000000-000.tfrecord");
    let others = ["requests-notes.txt", "requests-2-20200101-000000-000.jsonl", "other-20200101-000000-000.jsonl"];
    std::fs::write(&old, [0; 900]).unwrap();
    others.iter().for_each(|name| std::fs::write(folder.0.join(name), [0; 900]).unwrap());
    let mut files = LogFiles::new(&settings(&folder.0, Format::Json, 1000));
    files.push(&[b'x'; 200]).unwrap();
    files.flush().unwrap();
    assert!(!old.exists());
    assert!(others.iter().all(|name| folder.0.join(name).exists()));
}

#[test]
fn a_record_larger_than_all_files_is_refused_alone() {
    let folder = Folder::new("large");
    let mut files = LogFiles::new(&settings(&folder.0, Format::Json, 1000));
    assert!(matches!(files.push(&[b'x'; 1001]), Err(files::Trouble::TooLarge)));
    files.push(&[b'x'; 900]).unwrap();
    assert_eq!(files.flush().unwrap(), 1);
}

#[test]
fn trouble_with_the_disk_is_told_once_until_it_is_over() {
    let folder = Folder::new("trouble");
    let missing = folder.0.join("a").join("b");
    let mut files = LogFiles::new(&settings(&missing, Format::Json, 1000));
    let told = |files: &mut LogFiles| {
        files.push(b"x\n").unwrap();
        matches!(files.flush(), Err(files::Trouble::Disk { lost: 1, first: true, .. }))
    };
    assert!(told(&mut files));
    assert!(!told(&mut files));
    std::fs::create_dir(folder.0.join("a")).unwrap();
    assert!(!told(&mut files));
    assert_eq!(std::fs::read_dir(&missing).unwrap().count(), 1);
}

#[test]
fn what_has_no_room_in_the_queue_is_lost_and_counted() {
    let folder = Folder::new("full");
    let queue = Arc::new(Queue::bounded(2000));
    let settings = settings(&folder.0, Format::Tfrecord, 1 << 20);
    // Nobody empties the queue.
    let log = Arc::new(ModelLog {
        model: "digits".to_owned(),
        share: Share::new(1.0),
        counts: Arc::default(),
        queue,
        files: Mutex::new(LogFiles::new(&settings)),
        settings,
    });
    (0..100).for_each(|_| log_one(&log, &[1.0]));
    let lost = log.counts.lost[Loss::QueueFull as usize].load(Ordering::Relaxed);
    assert!((80..100).contains(&lost), "{lost}");
}

#[test]
fn about_as_many_requests_are_sampled_as_asked_for() {
    let folder = Folder::new("sampled");
    let logs = RequestLogs::default();
    let some = LogSettings { sample: 0.1, ..settings(&folder.0, Format::Json, 1000) };
    let log = logs.of("digits", Some(some)).unwrap();
    let sampled = (0..100_000).filter(|_| log.sample()).count();
    assert!((9_000..11_000).contains(&sampled), "{sampled}");
    let none = LogSettings { sample: 0.0, ..settings(&folder.0, Format::Json, 1000) };
    assert!(logs.of("digits", Some(none)).is_none());
}

#[test]
fn a_log_stays_the_same_while_nothing_about_it_changes() {
    let folder = Folder::new("same");
    let logs = RequestLogs::default();
    let wanted = settings(&folder.0, Format::Json, 1000);
    let first = logs.of("digits", Some(wanted.clone())).unwrap();
    assert!(Arc::ptr_eq(&first, &logs.of("digits", Some(wanted.clone())).unwrap()));
    let other = LogSettings { format: Format::Tfrecord, ..wanted };
    assert!(!Arc::ptr_eq(&first, &logs.of("digits", Some(other)).unwrap()));
}
