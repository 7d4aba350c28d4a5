//! The engine's C interface: the only place that calls into the library.
//!
//! In: the path of the library, connection arguments, statements. Out: results and insert streams as safe values.
//! Knows nothing of HTTP and starts nothing by itself.
//!
//! Rules of the library, from its header (`chdb.h` of version 26.7) and from measurement with 26.7.3:
//! 1. One data path in a process, any number of connections to it; the first one starts the engine, closing the last
//!    one stops it.
//! 2. A connection runs one statement at a time, so every method here takes `&mut self`. Another thread may wait on
//!    another connection meanwhile.
//! 3. A result and an insert stream belong to the caller until destroyed, also when they report an error.
//! 4. `exit()` with an open connection crashes: every [`Connection`] must be dropped before the process ends.
//! 5. A statement that runs is stopped by `KILL QUERY` on another connection; there is no call for it.

#![expect(unsafe_code, reason = "the engine is a C library; every call's argument is stated where it is made")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// Why the library could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The file is not a library for this machine, or one it needs is missing. Retrying does not help.
    #[error("cannot load the engine library {path}")]
    Load {
        /// The file that was tried.
        path: PathBuf,
        /// What the loader said.
        source: libloading::Error,
    },
    /// A connection was refused; the library does not say why. Usual causes: the data folder is not writable, or holds
    /// data of another version.
    #[error("the engine refused to open the data folder")]
    Connect,
}

type ResultHandle = *mut c_void;
type ConnectionHandle = *mut c_void;
type StreamHandle = *mut c_void;
type Strings = *const *const c_char;
type Lengths = *const usize;

/// Entry points, resolved once. Signatures are those of `chdb.h`.
struct Symbols {
    version: unsafe extern "C" fn() -> *const c_char,
    set_signal_handlers_enabled: unsafe extern "C" fn(c_int),
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut ConnectionHandle,
    close: unsafe extern "C" fn(*mut ConnectionHandle),
    query: unsafe extern "C" fn(
        ConnectionHandle,
        *const c_char,
        usize,
        *const c_char,
        usize,
        Strings,
        Lengths,
        Strings,
        Lengths,
        usize,
    ) -> ResultHandle,
    insert: unsafe extern "C" fn(
        ConnectionHandle,
        *const c_char,
        usize,
        *const c_char,
        usize,
        Strings,
        Lengths,
        Strings,
        Lengths,
        usize,
    ) -> StreamHandle,
    insert_append: unsafe extern "C" fn(StreamHandle, *const c_void, usize) -> c_int,
    insert_done: unsafe extern "C" fn(StreamHandle) -> ResultHandle,
    insert_error: unsafe extern "C" fn(StreamHandle) -> *const c_char,
    insert_destroy: unsafe extern "C" fn(StreamHandle),
    result_destroy: unsafe extern "C" fn(ResultHandle),
    result_buffer: unsafe extern "C" fn(ResultHandle) -> *const c_char,
    result_length: unsafe extern "C" fn(ResultHandle) -> usize,
    result_error: unsafe extern "C" fn(ResultHandle) -> *const c_char,
    result_rows: unsafe extern "C" fn(ResultHandle) -> u64,
    result_bytes: unsafe extern "C" fn(ResultHandle) -> u64,
    result_storage_rows: unsafe extern "C" fn(ResultHandle) -> u64,
    result_storage_bytes: unsafe extern "C" fn(ResultHandle) -> u64,
    result_rows_written: unsafe extern "C" fn(ResultHandle) -> u64,
    result_bytes_written: unsafe extern "C" fn(ResultHandle) -> u64,
    result_elapsed: unsafe extern "C" fn(ResultHandle) -> f64,
}

/// The loaded engine. Stays loaded until the process ends: its background threads run in its code.
pub struct Library {
    symbols: Symbols,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("version", &self.version()).finish()
    }
}

impl Library {
    /// Loads the library and switches off its signal handlers, which would otherwise replace ours. Blocks for the time
    /// of mapping the file, about 50 ms.
    ///
    /// # Errors
    ///
    /// [`LibraryError::Load`] when the file or one of its entry points cannot be loaded.
    pub fn load(path: &Path) -> Result<&'static Library, LibraryError> {
        let failed = |source| LibraryError::Load { path: path.to_owned(), source };
        // SAFETY: the file is the pinned engine (checked by its SHA-256 when fetched) or one the operator named; its
        // initialisers set up C++ statics and start no thread that depends on us.
        let library = unsafe { libloading::Library::new(path) }.map_err(failed)?;
        // Leaked on purpose, so that a pointer into it can never dangle.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is the one `chdb.h` gives this name; the library is never unloaded.
                *unsafe { library.get($name) }.map_err(failed)?
            };
        }
        let symbols = Symbols {
            version: symbol!(b"chdb_version\0"),
            set_signal_handlers_enabled: symbol!(b"chdb_set_signal_handlers_enabled\0"),
            connect: symbol!(b"chdb_connect\0"),
            close: symbol!(b"chdb_close_conn\0"),
            query: symbol!(b"chdb_query_with_params_n\0"),
            insert: symbol!(b"chdb_stream_insert_with_params_n\0"),
            insert_append: symbol!(b"chdb_stream_append\0"),
            insert_done: symbol!(b"chdb_stream_done\0"),
            insert_error: symbol!(b"chdb_stream_insert_error\0"),
            insert_destroy: symbol!(b"chdb_destroy_insert_stream\0"),
            result_destroy: symbol!(b"chdb_destroy_query_result\0"),
            result_buffer: symbol!(b"chdb_result_buffer\0"),
            result_length: symbol!(b"chdb_result_length\0"),
            result_error: symbol!(b"chdb_result_error\0"),
            result_rows: symbol!(b"chdb_result_rows_read\0"),
            result_bytes: symbol!(b"chdb_result_bytes_read\0"),
            result_storage_rows: symbol!(b"chdb_result_storage_rows_read\0"),
            result_storage_bytes: symbol!(b"chdb_result_storage_bytes_read\0"),
            result_rows_written: symbol!(b"chdb_result_rows_written\0"),
            result_bytes_written: symbol!(b"chdb_result_bytes_written\0"),
            result_elapsed: symbol!(b"chdb_result_elapsed\0"),
        };
        // SAFETY: takes a plain flag; called before the first connection, as the header asks.
        unsafe { (symbols.set_signal_handlers_enabled)(0) };
        Ok(Box::leak(Box::new(Library { symbols })))
    }

    /// Version of the library, `26.7.3`. Never blocks.
    pub fn version(&self) -> String {
        // SAFETY: the library returns a static, NUL-terminated string.
        unsafe { text((self.symbols.version)()) }.unwrap_or_default()
    }

    /// Opens a connection with the command-line style arguments given (`--path=DIR`, `--setting=value`). The first one
    /// of a process starts the engine (0.1 s with an empty data folder); a further one takes 0.4 ms.
    ///
    /// # Errors
    ///
    /// [`LibraryError::Connect`] when the engine refuses; arguments with a NUL byte are refused the same way.
    pub fn connect(&'static self, arguments: &[String]) -> Result<Connection, LibraryError> {
        let mut owned = vec![CString::new("clickhouse").map_err(|_| LibraryError::Connect)?];
        for argument in arguments {
            owned.push(CString::new(argument.as_bytes()).map_err(|_| LibraryError::Connect)?);
        }
        let mut pointers: Vec<*mut c_char> = owned.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| LibraryError::Connect)?;
        // SAFETY: `pointers` holds `count` NUL-terminated strings that outlive the call; the library copies them and
        // does not write to them.
        let handle = unsafe { (self.symbols.connect)(count, pointers.as_mut_ptr()) };
        let handle = NonNull::new(handle).ok_or(LibraryError::Connect)?;
        // SAFETY: a non-null return points to a connection pointer that stays valid until `close`.
        if unsafe { handle.as_ptr().read() }.is_null() {
            return Err(LibraryError::Connect);
        }
        Ok(Connection { library: self, handle })
    }
}

/// Copies a C string; `None` for a null pointer.
///
/// # Safety
///
/// `pointer` is null or points to a NUL-terminated string that lives through the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for it.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// Names and values of query parameters in the form the library takes them.
struct Parameters {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl Parameters {
    /// Borrows: the pointers are valid as long as `pairs` is.
    fn new(pairs: &[(String, String)]) -> Self {
        Self {
            names: pairs.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lengths: pairs.iter().map(|(name, _)| name.len()).collect(),
            values: pairs.iter().map(|(_, value)| value.as_ptr().cast()).collect(),
            value_lengths: pairs.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

/// One connection: its own settings, current database and temporary tables. Closed when dropped.
pub struct Connection {
    library: &'static Library,
    handle: NonNull<ConnectionHandle>,
}

// SAFETY: the library ties nothing of a connection to a thread; it takes the connection's own lock in every call, and
// `&mut self` keeps the calls in order.
unsafe impl Send for Connection {}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    fn raw(&self) -> ConnectionHandle {
        // SAFETY: the pointer stays valid until `close`, which only `drop` calls.
        unsafe { self.handle.as_ptr().read() }
    }

    /// Runs one statement to its end and returns its result in memory. Blocks as long as the statement runs.
    ///
    /// # Errors
    ///
    /// The engine's message, `Code: 62. DB::Exception: ...`.
    pub fn query(&mut self, sql: &str, format: &str, parameters: &[(String, String)]) -> Result<Output, String> {
        let p = Parameters::new(parameters);
        // SAFETY: every pointer comes with its length and outlives the call; the library copies what it keeps.
        let handle = unsafe {
            (self.library.symbols.query)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                p.names.as_ptr(),
                p.name_lengths.as_ptr(),
                p.values.as_ptr(),
                p.value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        Output::take(self.library, handle)
    }

    /// Begins an insert whose data follows in pieces. `sql` is the statement without its `FORMAT` clause and data.
    ///
    /// # Errors
    ///
    /// The engine's message when the statement, the table or a setting is wrong.
    pub fn insert(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<InsertStream<'_>, String> {
        let p = Parameters::new(parameters);
        // SAFETY: as in `query`.
        let handle = unsafe {
            (self.library.symbols.insert)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                p.names.as_ptr(),
                p.name_lengths.as_ptr(),
                p.values.as_ptr(),
                p.value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        let Some(handle) = NonNull::new(handle) else {
            return Err(String::from("the engine gave no insert stream"));
        };
        let stream = InsertStream { connection: self, handle };
        match stream.error() {
            Some(message) => Err(message),
            None => Ok(stream),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: `handle` came from `connect` and is closed exactly once; streams borrow the connection, so none is
        // open any more.
        unsafe { (self.library.symbols.close)(self.handle.as_ptr()) };
    }
}

/// Numbers of a finished statement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Statistics {
    /// Rows of the result.
    pub result_rows: u64,
    /// Bytes of the result in the engine's memory.
    pub result_bytes: u64,
    /// Rows read from tables.
    pub read_rows: u64,
    /// Bytes read from tables, uncompressed.
    pub read_bytes: u64,
    /// Rows written, those of materialized views included.
    pub written_rows: u64,
    /// Bytes written, uncompressed.
    pub written_bytes: u64,
    /// Seconds the statement took.
    pub elapsed: f64,
}

/// A result held in memory, freed when dropped.
pub struct Output {
    library: &'static Library,
    handle: NonNull<c_void>,
}

// SAFETY: a result is plain memory of the library with no tie to a thread; only its owner reads it.
unsafe impl Send for Output {}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("bytes", &self.data().len()).finish()
    }
}

impl Output {
    fn take(library: &'static Library, handle: ResultHandle) -> Result<Output, String> {
        let Some(handle) = NonNull::new(handle) else {
            return Err(String::from("the engine gave no result"));
        };
        let output = Output { library, handle };
        // SAFETY: the handle is live until `output` is dropped; the message is copied before.
        match unsafe { text((library.symbols.result_error)(handle.as_ptr())) } {
            Some(message) => Err(message),
            None => Ok(output),
        }
    }

    /// The result in the format asked for; may be empty.
    pub fn data(&self) -> &[u8] {
        let symbols = &self.library.symbols;
        // SAFETY: the handle is live; the library gives a buffer of that length that lives as long as the result.
        unsafe {
            let length = (symbols.result_length)(self.handle.as_ptr());
            let buffer = (symbols.result_buffer)(self.handle.as_ptr());
            if buffer.is_null() || length == 0 {
                return &[];
            }
            std::slice::from_raw_parts(buffer.cast(), length)
        }
    }

    /// Numbers of the statement.
    pub fn statistics(&self) -> Statistics {
        let symbols = &self.library.symbols;
        let handle = self.handle.as_ptr();
        // SAFETY: the handle is live, and each call only reads a number of it.
        unsafe {
            Statistics {
                result_rows: (symbols.result_rows)(handle),
                result_bytes: (symbols.result_bytes)(handle),
                read_rows: (symbols.result_storage_rows)(handle),
                read_bytes: (symbols.result_storage_bytes)(handle),
                written_rows: (symbols.result_rows_written)(handle),
                written_bytes: (symbols.result_bytes_written)(handle),
                elapsed: (symbols.result_elapsed)(handle),
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: the handle came from the library, is destroyed exactly once, and `data` borrows from `self`.
        unsafe { (self.library.symbols.result_destroy)(self.handle.as_ptr()) };
    }
}

/// An insert in work. Dropped without [`finish`](Self::finish): cancelled, what was not yet written is not written.
pub struct InsertStream<'a> {
    connection: &'a mut Connection,
    handle: NonNull<c_void>,
}

// SAFETY: as for `Connection`, which it borrows alone.
unsafe impl Send for InsertStream<'_> {}

impl std::fmt::Debug for InsertStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InsertStream")
    }
}

impl InsertStream<'_> {
    fn error(&self) -> Option<String> {
        // SAFETY: the handle is live; the message is copied at once.
        unsafe { text((self.connection.library.symbols.insert_error)(self.handle.as_ptr())) }
    }

    /// Gives a piece of the data, cut anywhere. Blocks while the engine is behind.
    ///
    /// # Errors
    ///
    /// [`InsertFailed`]: the insert failed already; [`finish`](Self::finish) tells why.
    pub fn append(&mut self, data: &[u8]) -> Result<(), InsertFailed> {
        if data.is_empty() {
            return Ok(());
        }
        // SAFETY: the handle is live, `data` is valid for its length during the call, and the library copies it.
        let state = unsafe {
            (self.connection.library.symbols.insert_append)(self.handle.as_ptr(), data.as_ptr().cast(), data.len())
        };
        if state == 0 { Ok(()) } else { Err(InsertFailed) }
    }

    /// Ends the data and commits it. Blocks until the engine has written it.
    ///
    /// # Errors
    ///
    /// The engine's message, also for a failure seen by an earlier [`append`](Self::append).
    pub fn finish(self) -> Result<Statistics, String> {
        // SAFETY: the handle is live; the result is ours, the stream itself is destroyed by `drop`.
        let handle = unsafe { (self.connection.library.symbols.insert_done)(self.handle.as_ptr()) };
        Output::take(self.connection.library, handle).map(|output| output.statistics())
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: destroyed exactly once; the library cancels a stream that was not finished.
        unsafe { (self.connection.library.symbols.insert_destroy)(self.handle.as_ptr()) };
    }
}

/// The insert failed before; its stream's end says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the insert failed before its end")]
pub struct InsertFailed;
