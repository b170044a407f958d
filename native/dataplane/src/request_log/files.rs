//! The files of one log: whole records only, for their owner alone, bounded together.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Format, LogSettings};

/// A file is ended at an eighth of what all may hold together, so that little goes when the oldest is removed.
const FILES: u64 = 8;
const LARGEST_FILE: u64 = 64 << 20;
const LARGEST_BUFFER: usize = 1 << 20;
const EXTENSIONS: [&str; 2] = ["tfrecord", "jsonl"];
const MOST_A_SECOND: u16 = 1000;
const TFRECORD_FRAME: usize = 16;

/// Why records were not written.
#[derive(Debug)]
pub(super) enum Trouble {
    /// One record, larger than all files may be together.
    TooLarge,
    /// `first`: nobody has been told yet.
    Disk { lost: u64, first: bool, error: io::Error },
}

pub(super) struct LogFiles {
    prefix: PathBuf,
    format: Format,
    max_bytes: u64,
    file_bytes: u64,
    /// Ended files with their sizes, oldest first; `None` before the first look.
    ended: Option<VecDeque<(PathBuf, u64)>>,
    current: Option<Current>,
    /// Whole records on their way into the current file.
    buffer: Vec<u8>,
    buffered: u64,
    /// Moment and number of the newest file: a number is not given again when its file is gone.
    newest: (String, u16),
    troubled: bool,
}

struct Current {
    file: File,
    path: PathBuf,
    length: u64,
}

impl LogFiles {
    pub(super) fn new(settings: &LogSettings) -> LogFiles {
        LogFiles {
            prefix: settings.prefix.clone(),
            format: settings.format,
            max_bytes: settings.max_bytes,
            file_bytes: (settings.max_bytes / FILES).min(LARGEST_FILE),
            ended: None,
            current: None,
            buffer: Vec::new(),
            buffered: 0,
            newest: (String::new(), 0),
            troubled: false,
        }
    }

    /// Takes one record. How many were written meanwhile.
    pub(super) fn push(&mut self, record: &[u8]) -> Result<u64, Trouble> {
        let length = record.len() + if self.format == Format::Tfrecord { TFRECORD_FRAME } else { 0 };
        if length as u64 > self.max_bytes {
            return Err(Trouble::TooLarge);
        }
        let mut written = 0;
        let length_then = self.length() + (self.buffer.len() + length) as u64;
        let is_full = length_then > self.file_bytes && length_then > length as u64;
        let flushed = if is_full || self.buffer.len() > LARGEST_BUFFER { self.flush() } else { Ok(0) };
        if is_full {
            self.end_file();
        }
        match self.format {
            Format::Tfrecord => put_tfrecord(&mut self.buffer, record),
            Format::Json => self.buffer.extend_from_slice(record),
        }
        self.buffered += 1;
        written += flushed?;
        Ok(written)
    }

    /// Writes what was taken. How many records that were.
    pub(super) fn flush(&mut self) -> Result<u64, Trouble> {
        if self.buffer.is_empty() {
            return Ok(0);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let records = std::mem::take(&mut self.buffered);
        match self.write(&buffer) {
            Ok(()) => {
                self.troubled = false;
                Ok(records)
            }
            Err(error) => {
                let first = !std::mem::replace(&mut self.troubled, true);
                Err(Trouble::Disk { lost: records, first, error })
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len() as u64)?;
        if self.current.is_none() {
            self.current = Some(self.create()?);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        if let Err(error) = current.file.write_all(bytes) {
            // What is half there goes (the next write is appended to what is left), so that the file holds whole records; where that fails too, no more is added.
            if current.file.set_len(current.length).is_err() {
                self.end_file();
            }
            return Err(error);
        }
        current.length += bytes.len() as u64;
        Ok(())
    }

    /// A new file that only its owner may read, and its folder where that is missing.
    fn create(&mut self) -> io::Result<Current> {
        if let Some(folder) = self.prefix.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            DirBuilder::new().mode(0o700).create(folder)?;
        }
        let stamp = stamp(SystemTime::now());
        let first = if self.newest.0 == stamp { self.newest.1 + 1 } else { 0 };
        for number in first..MOST_A_SECOND {
            let mut name = self.prefix.as_os_str().to_owned();
            name.push(format!("-{stamp}-{number:03}.{}", extension(self.format)));
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    self.newest = (stamp, number);
                    return Ok(Current { file, path: PathBuf::from(name), length: 0 });
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    fn length(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.length)
    }

    fn end_file(&mut self) {
        if let (Some(current), Some(ended)) = (self.current.take(), &mut self.ended) {
            ended.push_back((current.path, current.length));
        }
    }

    /// Removes the oldest files until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let current = self.length();
        let ended = match &mut self.ended {
            Some(ended) => ended,
            None => self.ended.insert(existing(&self.prefix)?),
        };
        let mut total = current + bytes + ended.iter().map(|(_, length)| length).sum::<u64>();
        while total > self.max_bytes {
            let Some((path, length)) = ended.pop_front() else { break };
            if let Err(error) = std::fs::remove_file(&path).or_else(unless_gone) {
                ended.push_front((path, length));
                return Err(error);
            }
            total -= length;
        }
        Ok(())
    }
}

fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Source: <https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>.
fn put_tfrecord(out: &mut Vec<u8>, record: &[u8]) {
    let length = (record.len() as u64).to_le_bytes();
    out.reserve(record.len() + TFRECORD_FRAME);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(record);
    out.extend_from_slice(&masked_crc(record).to_le_bytes());
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Tfrecord => EXTENSIONS[0],
        Format::Json => EXTENSIONS[1],
    }
}

/// The moment as `YYYYMMDD-HHMMSS`, in UTC.
fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seconds = libc::time_t::try_from(seconds).unwrap_or_default();
    // SAFETY: all zeros are a valid `tm`, which is plain numbers and a pointer that is not followed.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live through the call, which keeps neither.
    unsafe { libc::gmtime_r(&raw const seconds, &raw mut parts) };
    let (year, month) = (parts.tm_year + 1900, parts.tm_mon + 1);
    format!("{year:04}{month:02}{:02}-{:02}{:02}{:02}", parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec)
}

/// The files that were written before, oldest first.
fn existing(prefix: &Path) -> io::Result<VecDeque<(PathBuf, u64)>> {
    let folder = prefix.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = prefix.file_name().map(OsString::from).unwrap_or_default();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return unless_gone(error).map(|()| VecDeque::new()),
    };
    let mut found: Vec<(String, PathBuf, u64)> = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().zip(stem.to_str()).and_then(|(name, stem)| name.strip_prefix(stem));
        if let Some(rest) = rest.filter(|rest| is_ours(rest)) {
            found.push((rest.to_owned(), entry.path(), entry.metadata().map_or(0, |metadata| metadata.len())));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path, length)| (path, length)).collect())
}

/// Whether a name goes on behind the prefix as `-YYYYMMDD-HHMMSS-NNN.EXTENSION`: nothing else is ever removed.
fn is_ours(rest: &str) -> bool {
    let Some((stamp, extension)) = rest.split_once('.') else { return false };
    let digits: Vec<&str> = stamp.split('-').collect();
    let is_number = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(digits[..], ["", date, time, number] if is_number(date, 8) && is_number(time, 6) && is_number(number, 3))
        && EXTENSIONS.contains(&extension)
}
