//! JSON lines in files, compressed with zstd: one message a line.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use super::files::{Directory, Format, Part};
use crate::config::NotifOutput;
use crate::telemetry::message::Message;

/// Level of compression: the usual one.
const LEVEL: i32 = 3;

/// JSON lines.
pub(super) struct Ndjson {
    directory: Directory,
    open: Option<Open>,
}

struct Open {
    encoder: zstd::stream::write::Encoder<'static, Counted>,
    part: Part,
    /// Something was written since the last flush.
    dirty: bool,
}

/// A file that knows how much went into it.
struct Counted {
    file: File,
    written: u64,
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Ndjson {
    pub(super) fn new(config: &NotifOutput) -> Result<Self, String> {
        Ok(Self {
            // Everything up to the last flush of a file that was not ended can be read.
            directory: Directory::new(config, ".ndjson.zst", true)?,
            open: None,
        })
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let counted = open.encoder.finish()?;
        self.directory.finish(&counted.file, open.part)
    }
}

impl Format for Ndjson {
    fn write(&mut self, batch: &[Arc<Message>]) -> io::Result<()> {
        // Taken out, so that a file in which a write failed is not written to again.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let (file, part) = self.directory.create()?;
                let counted = Counted { file, written: 0 };
                let mut encoder = zstd::stream::write::Encoder::new(counted, LEVEL)?;
                encoder.include_checksum(true)?;
                Open {
                    encoder,
                    part,
                    dirty: false,
                }
            }
        };
        for message in batch {
            open.encoder.write_all(message.record())?;
            open.encoder.write_all(b"\n")?;
        }
        open.dirty = true;
        let over = self
            .directory
            .is_over(&open.part, open.encoder.get_ref().written);
        self.open = Some(open);
        if over { self.end() } else { Ok(()) }
    }

    fn tick(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if std::mem::take(&mut open.dirty) {
            open.encoder.flush()?;
        }
        let size = open.encoder.get_ref().written;
        if self.directory.is_over(&open.part, size) {
            return self.end();
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.end()
    }
}
