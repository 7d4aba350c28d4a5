//! Named queries: what `query!` declares, and how one is timed.
//!
//! In: a name and a dialect, checked and registered at compile and link time. Out: a handle that makes a future, a closure or a
//! pair of calls that query.

use std::future::Future;

use super::Dialect;
use super::known::{self, Known};
use super::table::Code;
use super::timing::{self, Begin, QueryEnd, QueryOutput, Running, Subject, TimedQuery};

/// A named query declared in the code; made by [`query!`](crate::query!).
///
/// # Examples
/// ```
/// gemba::query!("orders.declared", Postgres);
/// let site = gemba::query::QUERIES.iter().find(|site| site.name() == "orders.declared").unwrap();
/// assert!(site.line() > 0 && !site.file().is_empty());
/// ```
#[derive(Debug)]
pub struct QuerySite {
    name: &'static str,
    dialect: Dialect,
    file: &'static str,
    line: u32,
    known: std::sync::OnceLock<&'static Known>,
}

impl QuerySite {
    /// Describes the call site; used by the macro.
    #[doc(hidden)]
    pub const fn new(name: &'static str, dialect: Dialect, (file, line): (&'static str, u32)) -> Self {
        Self { name, dialect, file, line, known: std::sync::OnceLock::new() }
    }

    /// The query's name.
    ///
    /// # Examples
    /// ```
    /// gemba::query!("orders.named", Postgres);
    /// let site = gemba::query::QUERIES.iter().find(|site| site.name() == "orders.named").unwrap();
    /// assert_eq!(site.name(), "orders.named");
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// File of the code.
    ///
    /// # Examples
    /// ```
    /// gemba::query!("orders.filed", Postgres);
    /// let site = gemba::query::QUERIES.iter().find(|site| site.name() == "orders.filed").unwrap();
    /// assert!(site.file().ends_with(".rs"), "{}", site.file());
    /// ```
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// Line of the code.
    ///
    /// # Examples
    /// ```
    /// gemba::query!("orders.lined", Postgres);
    /// let site = gemba::query::QUERIES.iter().find(|site| site.name() == "orders.lined").unwrap();
    /// assert!(site.line() > 0);
    /// ```
    pub fn line(&self) -> u32 {
        self.line
    }

    #[inline]
    pub(super) fn known(&self) -> &'static Known {
        self.known.get_or_init(|| known::by_name(self.dialect, self.name))
    }
}

/// Every named query of the build, in no particular order; filled by the linker.
///
/// # Examples
/// ```
/// gemba::query!("orders.listed", Postgres);
/// assert!(gemba::query::QUERIES.iter().any(|site| site.name() == "orders.listed"));
/// ```
#[linkme::distributed_slice]
pub static QUERIES: [&'static QuerySite];

/// A named query, ready to be timed; see [`query!`](crate::query!).
///
/// # Examples
/// ```
/// # async fn fetch(id: u64) -> Result<u64, std::io::Error> { Ok(id) }
/// # async fn handler() -> Result<u64, std::io::Error> {
/// let query: gemba::query::QueryHandle = gemba::query!("orders.by_id", Postgres);
/// let first = query.timed(fetch(1)).await?;
/// Ok(first + query.timed(fetch(2)).await?)
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct QueryHandle {
    site: &'static QuerySite,
}

impl QueryHandle {
    /// The handle of a call site; used by the macro.
    #[doc(hidden)]
    pub const fn new(site: &'static QuerySite) -> Self {
        Self { site }
    }

    fn code(self) -> Code {
        Code { file: self.site.file, line: self.site.line }
    }

    /// Begins the query now; [`Running::finish`] ends it.
    ///
    /// # Examples
    /// ```
    /// let running = gemba::query!("orders.by_user", Sqlite).start();
    /// running.finish(Some(1));
    /// ```
    #[inline]
    pub fn start(self) -> Running {
        Running::begin(|| self.site.known(), self.code())
    }

    /// Runs `work` as the query.
    ///
    /// # Examples
    /// ```
    /// let total = gemba::query!("orders.total", Sqlite).run(|| "40".parse::<u32>());
    /// assert_eq!(total, Ok(40));
    /// ```
    #[inline]
    pub fn run<T: QueryOutput>(self, work: impl FnOnce() -> T) -> T {
        timing::run(self.start(), work)
    }

    /// Wraps `future` as the query: timed from its first poll until it is ready.
    ///
    /// # Examples
    /// ```
    /// # async fn fetch() -> Result<Vec<u32>, std::io::Error> { Ok(vec![1]) }
    /// # async fn handler() -> Result<Vec<u32>, std::io::Error> {
    /// gemba::query!("orders.by_user", Postgres).timed(fetch()).await
    /// # }
    /// ```
    pub fn timed<F: Future>(self, future: F) -> TimedQuery<F>
    where
        F::Output: QueryOutput,
    {
        self.timed_with(future, F::Output::query_end)
    }

    /// As [`timed`](Self::timed), with a `judge` that knows the rows, or outputs that do not say themselves how it ended.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::QueryEnd;
    /// # async fn fetch() -> Vec<u32> { vec![1] }
    /// # async fn handler() -> Vec<u32> {
    /// gemba::query!("orders.by_user", Postgres)
    ///     .timed_with(fetch(), |rows| QueryEnd { rows: Some(rows.len() as u64), ..QueryEnd::default() })
    ///     .await
    /// # }
    /// ```
    pub fn timed_with<F: Future, J: FnOnce(&F::Output) -> QueryEnd>(self, future: F, judge: J) -> TimedQuery<F, J> {
        TimedQuery::new(future, judge, Begin { query: Subject::Site(self.site), code: self.code() })
    }
}

/// Declares a named query and gives its [`QueryHandle`](crate::query::QueryHandle).
///
/// The name is checked at compile time like a feature's and is part of the catalogue, so that a query that never runs is
/// known too. The second argument is the [`Dialect`](crate::query::Dialect) of its database.
///
/// ```
/// let found = gemba::query!("users.by_email", Sqlite).run(|| Ok::<_, std::io::Error>(1));
/// # drop(found);
/// ```
#[macro_export]
macro_rules! query {
    ($name:literal $(,)?) => {
        $crate::query!($name, Generic)
    };
    ($name:literal, $dialect:ident $(,)?) => {{
        $crate::__check_name!($name);
        static __GEMBA_QUERY: $crate::query::QuerySite =
            $crate::query::QuerySite::new($name, $crate::query::Dialect::$dialect, (::core::file!(), ::core::line!()));
        $crate::__register_query!(__GEMBA_QUERY);
        $crate::query::QueryHandle::new(&__GEMBA_QUERY)
    }};
    ($($other:tt)*) => {
        ::core::compile_error!("expected a literal name and a dialect: query!(\"orders.by_user\", Postgres)")
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "off"))]
macro_rules! __register_query {
    ($site:ident) => {
        #[$crate::__private::linkme::distributed_slice($crate::query::QUERIES)]
        #[linkme(crate = $crate::__private::linkme)]
        static __GEMBA_REGISTERED_QUERY: &$crate::query::QuerySite = &$site;
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(feature = "off")]
macro_rules! __register_query {
    ($site:ident) => {};
}
