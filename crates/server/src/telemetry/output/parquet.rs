//! Parquet files, compressed with zstd: one message a row. A file can be read once it is complete: until then it is a `.part`, and a
//! crash loses it. `max_age` says how much that can be.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;

use super::files::{Directory, Format, Part};
use crate::clock::Millis;
use crate::config::NotifOutput;
use crate::telemetry::envelope::Envelope;
use crate::telemetry::message::Message;

/// Rows of one group at most.
const ROWS: usize = 20_000;
/// Bytes of payload of one group at most, before compression.
const BYTES: usize = 8 * 1024 * 1024;

const SCHEMA: &str = "message telemetry {
    REQUIRED INT64 time (TIMESTAMP(MILLIS, true));
    OPTIONAL BYTE_ARRAY device (STRING);
    REQUIRED BYTE_ARRAY address (STRING);
    REQUIRED INT64 publisher_id;
    REQUIRED INT64 message_id;
    REQUIRED BYTE_ARRAY media_type (STRING);
    OPTIONAL INT64 event_time (TIMESTAMP(MILLIS, true));
    OPTIONAL BYTE_ARRAY hostname (STRING);
    OPTIONAL INT64 sequence_number;
    OPTIONAL BYTE_ARRAY notification (STRING);
    OPTIONAL BYTE_ARRAY subscription_id (STRING);
    REQUIRED BYTE_ARRAY payload;
}";

/// Parquet files.
pub(super) struct Parquet {
    directory: Directory,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    open: Option<Open>,
    /// Rows whose group could not be written: they stand first in the next file.
    left: Vec<Arc<Message>>,
}

struct Open {
    writer: SerializedFileWriter<File>,
    part: Part,
    rows: Vec<Arc<Message>>,
    bytes: usize,
}

impl Parquet {
    pub(super) fn new(config: &NotifOutput) -> Result<Self, String> {
        let schema = parse_message_type(SCHEMA).map_err(|error| error.to_string())?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("homefleet ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        Ok(Self {
            directory: Directory::new(config, ".parquet", false)?,
            schema: Arc::new(schema),
            properties: Arc::new(properties),
            open: None,
            left: Vec::new(),
        })
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        if let Err(error) = open.group() {
            self.left = open.rows;
            return Err(error);
        }
        let file = open.writer.into_inner().map_err(failed)?;
        self.directory.finish(&file, open.part)
    }
}

impl Format for Parquet {
    fn write(&mut self, batch: &[Arc<Message>]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let (file, part) = self.directory.create()?;
                let (schema, properties) = (self.schema.clone(), self.properties.clone());
                Open {
                    writer: SerializedFileWriter::new(file, schema, properties).map_err(failed)?,
                    part,
                    rows: std::mem::take(&mut self.left),
                    bytes: 0,
                }
            }
        };
        // A batch is taken whole or not at all: it is tried again with the next file.
        let before = open.rows.len();
        for message in batch {
            open.bytes += message.payload.len();
            open.rows.push(Arc::clone(message));
        }
        if (open.rows.len() >= ROWS || open.bytes >= BYTES)
            && let Err(error) = open.group()
        {
            open.rows.truncate(before);
            self.left = open.rows;
            return Err(error);
        }
        let over = self.directory.is_over(&open.part, open.size());
        self.open = Some(open);
        if over { self.end() } else { Ok(()) }
    }

    fn tick(&mut self) -> io::Result<()> {
        let over = self
            .open
            .as_ref()
            .is_some_and(|open| self.directory.is_over(&open.part, open.size()));
        if over { self.end() } else { Ok(()) }
    }

    fn close(&mut self) -> io::Result<()> {
        self.end()
    }
}

impl Open {
    /// What the file has, and about what its next group will add.
    fn size(&self) -> u64 {
        let size = self.writer.bytes_written() + self.bytes / 4;
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    /// Writes the rows as a group.
    fn group(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = &self.rows;
        let mut group = self.writer.next_row_group().map_err(failed)?;
        let millis = |time: Millis| i64::try_from(time.0).unwrap_or(i64::MAX);
        let text = |text: &str| ByteArray::from(text);
        let envelope = |message: &Message| message.envelope().ok().cloned();
        let envelopes: Vec<Option<Envelope>> = rows.iter().map(|row| envelope(row)).collect();
        let of = |read: fn(&Envelope) -> Option<&String>| {
            let each = envelopes.iter();
            each.map(|envelope| envelope.as_ref().and_then(read).map(|value| text(value)))
                .collect::<Vec<_>>()
        };
        let column = |read: &dyn Fn(&Message) -> i64| {
            rows.iter().map(|row| Some(read(row))).collect::<Vec<_>>()
        };
        let required = |values: Vec<Option<i64>>,
                        group: &mut SerializedRowGroupWriter<'_, File>| {
            next::<Int64Type>(group, values, false)
        };
        required(column(&|row| millis(row.at)), &mut group)?;
        let devices = rows.iter().map(|row| row.device.as_deref().map(text));
        next::<ByteArrayType>(&mut group, devices.collect(), true)?;
        let addresses = rows.iter().map(|row| Some(text(&row.from.to_string())));
        next::<ByteArrayType>(&mut group, addresses.collect(), false)?;
        required(column(&|row| i64::from(row.publisher)), &mut group)?;
        required(column(&|row| i64::from(row.message_id)), &mut group)?;
        let media = rows.iter().map(|row| Some(text(&row.media)));
        next::<ByteArrayType>(&mut group, media.collect(), false)?;
        let times = envelopes.iter().map(|envelope| {
            let time = envelope.as_ref().and_then(|envelope| envelope.event_time);
            time.map(millis)
        });
        next::<Int64Type>(&mut group, times.collect(), true)?;
        next::<ByteArrayType>(&mut group, of(|envelope| envelope.hostname.as_ref()), true)?;
        let numbers = envelopes.iter().map(|envelope| {
            let number = envelope.as_ref().and_then(|envelope| envelope.sequence);
            number.and_then(|number| i64::try_from(number).ok())
        });
        next::<Int64Type>(&mut group, numbers.collect(), true)?;
        next::<ByteArrayType>(
            &mut group,
            of(|envelope| envelope.notification.as_ref()),
            true,
        )?;
        next::<ByteArrayType>(
            &mut group,
            of(|envelope| envelope.subscription.as_ref()),
            true,
        )?;
        let payloads = rows
            .iter()
            .map(|row| Some(ByteArray::from(row.payload.clone())));
        next::<ByteArrayType>(&mut group, payloads.collect(), false)?;
        group.close().map_err(failed)?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Writes the next column; the group is closed behind its last.
fn next<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: Vec<Option<T::T>>,
    optional: bool,
) -> io::Result<()> {
    let levels: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let Some(mut column) = group.next_column().map_err(failed)? else {
        return Err(io::Error::other("the file has fewer columns"));
    };
    column
        .typed::<T>()
        .write_batch(&values, optional.then_some(levels.as_slice()), None)
        .map_err(failed)?;
    column.close().map_err(failed)
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error.to_string())
}
