//! The database of the shop: a SQLite file, its schema by release, and one method per thing a page needs.
//!
//! Every statement goes through Gemba's sqlx wrapper, so each call is timed, counted and tied to its line of code and to the
//! feature that made it. Filling the file at the start does not: it is not use.

use crate::plants::{HotQuery, Plants, RepeatedQuery};
use crate::statements;
use gemba::sqlx::Timed;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row, SqlitePool};
use std::path::Path;

/// Customers below this number are businesses, with a long history.
pub const BUSINESS_CUSTOMERS: i64 = 12;
/// Products below this number are best sellers, with many votes.
pub const BEST_SELLERS: i64 = 20;
/// Products of the shop.
pub const PRODUCTS: i64 = 2_000;
/// The category that holds most of them.
pub const OUTLET: &str = "outlet";

/// A line of a page.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Number of the product, order or review.
    pub id: i64,
    /// What it says.
    pub text: String,
    /// Money in cents, or a rating in hundredths.
    pub amount: i64,
}

/// The open database.
#[derive(Debug, Clone)]
pub struct Database {
    timed: Timed<SqlitePool>,
    plants: Plants,
}

const SCHEMA: &str = "
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price_cents INTEGER NOT NULL, popularity INTEGER NOT NULL);
CREATE INDEX products_name ON products (name);
CREATE INDEX products_popularity ON products (popularity);
CREATE TABLE listings (category TEXT NOT NULL, product INTEGER NOT NULL, name TEXT NOT NULL, rating INTEGER NOT NULL);
CREATE TABLE votes (product INTEGER NOT NULL, stars INTEGER NOT NULL);
CREATE TABLE ratings (product INTEGER PRIMARY KEY, votes INTEGER NOT NULL, stars REAL NOT NULL);
CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE reviews (id INTEGER PRIMARY KEY, product INTEGER NOT NULL, author INTEGER NOT NULL, stars INTEGER NOT NULL);
CREATE INDEX reviews_product ON reviews (product);
CREATE TABLE carts (session TEXT NOT NULL, product INTEGER NOT NULL, quantity INTEGER NOT NULL);
CREATE INDEX carts_session ON carts (session);
CREATE TABLE vouchers (code TEXT NOT NULL, percent INTEGER NOT NULL);
CREATE INDEX vouchers_code ON vouchers (code);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, total_cents INTEGER NOT NULL);
CREATE INDEX orders_customer ON orders (customer);
CREATE TABLE order_lines (order_id INTEGER NOT NULL, product INTEGER NOT NULL, quantity INTEGER NOT NULL);
CREATE INDEX order_lines_order ON order_lines (order_id);
CREATE TABLE statement_lines (customer INTEGER NOT NULL, amount_cents INTEGER NOT NULL);
CREATE TABLE statements (customer INTEGER PRIMARY KEY, lines INTEGER NOT NULL, amount_cents INTEGER NOT NULL);
CREATE TABLE wishes (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, product INTEGER NOT NULL, noted TEXT NOT NULL);
CREATE INDEX wishes_customer ON wishes (customer);
CREATE TABLE messages (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX messages_customer ON messages (customer);
CREATE TABLE returns (customer INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE subscriptions (customer INTEGER NOT NULL);
";

// Sizes are chosen so that reading a whole table costs some 10 ms on a small machine with nothing else to do (160 k rows took 4
// ms there) and an indexed look-up some tens of microseconds: the difference between the shop as it should be and a plant is one that
// users feel.
const CONTENT: &str = "
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1999)
INSERT INTO products SELECT i, char(97 + i % 26) || char(97 + i / 26 % 26) || ' product ' || i, CASE WHEN i % 2 = 0 THEN 'outlet' ELSE 'shelf ' || (i % 40) END, 500 + i * 37 % 9000, i * 7919 % 2000 FROM n;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 239999)
INSERT INTO listings SELECT CASE WHEN i % 4 = 3 THEN 'outlet' ELSE 'shelf ' || (i / 4 % 20 * 2 + 1) END, i % 2000, 'listed ' || i, i * 7919 % 500 FROM n;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 319999)
INSERT INTO votes SELECT CASE WHEN i % 10 < 9 THEN i % 20 ELSE i / 10 % 2000 END, 1 + i * 7919 % 5 FROM n;
INSERT INTO ratings SELECT product, count(*), avg(stars) FROM votes GROUP BY product;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3999)
INSERT INTO authors SELECT i, 'author ' || i FROM n;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 71999)
INSERT INTO reviews SELECT i, i % 2000, i * 31 % 4000, 1 + i % 5 FROM n;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 239999)
INSERT INTO vouchers SELECT 'V' || i, 5 + i % 20 FROM n;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 35999)
INSERT INTO orders SELECT i, i % 3000, 1000 + i * 37 % 20000 FROM n;
INSERT INTO order_lines SELECT id, id * 13 % 2000, 1 FROM orders;
INSERT INTO order_lines SELECT id, id * 17 % 2000, 2 FROM orders WHERE id % 2 = 0;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 399999)
INSERT INTO statement_lines SELECT CASE WHEN i % 10 < 9 THEN i % 12 ELSE i / 10 % 3000 END, 100 + i % 5000 FROM n;
INSERT INTO statements SELECT customer, count(*), sum(amount_cents) FROM statement_lines GROUP BY customer;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 239999)
INSERT INTO wishes SELECT i, i % 12000, i % 2000, 'some time ago' FROM n;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 239999)
INSERT INTO messages SELECT i, i % 12000, 'message ' || i, 'Thank you for your order.' FROM n;
ANALYZE;
";

impl Database {
    /// Creates the file with its schema and content as `plants` have it.
    ///
    /// # Errors
    /// Whatever SQLite says; the file must not exist yet.
    pub async fn create(file: &Path, plants: Plants) -> Result<(), sqlx::Error> {
        let pool = connect(file, 1).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        // A listing without its index is read and sorted as a whole for every reader.
        if plants.hot != Some(HotQuery::CategoryListing) {
            let index = "CREATE INDEX listings_category_rating ON listings (category, rating DESC, product)";
            sqlx::raw_sql(index).execute(&pool).await?;
        }
        sqlx::raw_sql(CONTENT).execute(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// The schema change of release 2: rebuilds an index, or forgets to.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub async fn migrate_to_release_2(file: &Path, plants: Plants) -> Result<(), sqlx::Error> {
        let Some(lost) = plants.regressed else { return Ok(()) };
        let pool = connect(file, 1).await?;
        let drop_index = match lost.index() {
            "wishes_customer" => "DROP INDEX wishes_customer",
            "messages_customer" => "DROP INDEX messages_customer",
            _ => "DROP INDEX vouchers_code",
        };
        sqlx::raw_sql(drop_index).execute(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Opens an existing file.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub async fn open(file: &Path, plants: Plants) -> Result<Self, sqlx::Error> {
        Ok(Self { timed: Timed::new(connect(file, 4).await?), plants })
    }

    /// The front page.
    pub async fn popular(&self) -> Result<Vec<Item>, sqlx::Error> {
        let rows = sqlx::query(statements::POPULAR).fetch_all(self.timed.here()).await?;
        rows.iter().map(item).collect()
    }

    /// Products whose name begins with `text`.
    pub async fn search(&self, text: &str) -> Result<Vec<Item>, sqlx::Error> {
        let end = format!("{text}\u{7f}");
        let rows = sqlx::query(statements::SEARCH).bind(text).bind(end).fetch_all(self.timed.here()).await?;
        rows.iter().map(item).collect()
    }

    /// A category, best rated first.
    pub async fn listing(&self, category: &str) -> Result<Vec<Item>, sqlx::Error> {
        let rows = sqlx::query(statements::LISTING).bind(category).fetch_all(self.timed.here()).await?;
        rows.iter().map(item).collect()
    }

    /// A product with its rating and newest reviews.
    pub async fn product(&self, id: i64) -> Result<Vec<Item>, sqlx::Error> {
        let row = sqlx::query(statements::PRODUCT).bind(id).fetch_one(self.timed.here()).await?;
        let mut items = vec![Item { id, text: row.try_get(1)?, amount: row.try_get(3)? }];
        let rating = if self.plants.hot == Some(HotQuery::ProductRating) {
            sqlx::query(statements::RATING_OF_VOTES).bind(id).fetch_one(self.timed.here()).await?
        } else {
            sqlx::query(statements::RATING_KEPT).bind(id).fetch_one(self.timed.here()).await?
        };
        items.push(Item { id, text: "rating".to_owned(), amount: rating.try_get(0)? });
        if self.plants.repeated == Some(RepeatedQuery::ReviewAuthors) {
            for review in sqlx::query(statements::REVIEWS).bind(id).fetch_all(self.timed.here()).await? {
                let author: i64 = review.try_get(1)?;
                let name = sqlx::query(statements::REVIEW_AUTHOR).bind(author).fetch_one(self.timed.here()).await?;
                items.push(Item { id: review.try_get(0)?, text: name.try_get(0)?, amount: review.try_get(2)? });
            }
        } else {
            for review in sqlx::query(statements::REVIEWS_WITH_AUTHORS).bind(id).fetch_all(self.timed.here()).await? {
                items.push(Item { id: review.try_get(0)?, text: review.try_get(2)?, amount: review.try_get(1)? });
            }
        }
        Ok(items)
    }

    /// Puts a product into the cart of a session.
    pub async fn add_to_cart(&self, session: &str, product: i64) -> Result<(), sqlx::Error> {
        sqlx::query(statements::CART_ADD).bind(session).bind(product).execute(self.timed.here()).await?;
        Ok(())
    }

    /// What is in the cart of a session.
    pub async fn cart(&self, session: &str) -> Result<Vec<Item>, sqlx::Error> {
        if self.plants.repeated != Some(RepeatedQuery::CartProducts) {
            let rows = sqlx::query(statements::CART_WITH_PRODUCTS).bind(session).fetch_all(self.timed.here()).await?;
            return rows
                .iter()
                .map(|row| Ok(Item { id: row.try_get(0)?, text: row.try_get(2)?, amount: row.try_get(3)? }))
                .collect();
        }
        let mut items = Vec::new();
        for line in sqlx::query(statements::CART).bind(session).fetch_all(self.timed.here()).await? {
            let id: i64 = line.try_get(0)?;
            let product = sqlx::query(statements::CART_PRODUCT).bind(id).fetch_one(self.timed.here()).await?;
            items.push(Item { id, text: product.try_get(0)?, amount: product.try_get(1)? });
        }
        Ok(items)
    }

    /// The discount of a voucher in percent, 0 when there is no such voucher.
    pub async fn voucher(&self, code: &str) -> Result<i64, sqlx::Error> {
        let row = sqlx::query(statements::VOUCHER).bind(code).fetch_optional(self.timed.here()).await?;
        row.map_or(Ok(0), |row| row.try_get(0))
    }

    /// Places an order.
    pub async fn place_order(&self, customer: i64, total_cents: i64) -> Result<(), sqlx::Error> {
        sqlx::query(statements::ORDER_ADD).bind(customer).bind(total_cents).execute(self.timed.here()).await?;
        Ok(())
    }

    /// The newest orders of a customer with their lines.
    pub async fn orders(&self, customer: i64) -> Result<Vec<Item>, sqlx::Error> {
        if self.plants.repeated != Some(RepeatedQuery::OrderLines) {
            let rows = sqlx::query(statements::ORDERS_WITH_LINES).bind(customer).fetch_all(self.timed.here()).await?;
            return rows
                .iter()
                .map(|row| Ok(Item { id: row.try_get(0)?, text: "line".to_owned(), amount: row.try_get(2)? }))
                .collect();
        }
        let mut items = Vec::new();
        for order in sqlx::query(statements::ORDERS).bind(customer).fetch_all(self.timed.here()).await? {
            let id: i64 = order.try_get(0)?;
            for line in sqlx::query(statements::ORDER_LINES).bind(id).fetch_all(self.timed.here()).await? {
                items.push(Item { id, text: "line".to_owned(), amount: line.try_get(0)? });
            }
        }
        Ok(items)
    }

    /// How often and how much a customer bought.
    pub async fn statement(&self, customer: i64) -> Result<Item, sqlx::Error> {
        let statement = if self.plants.hot == Some(HotQuery::AccountStatement) {
            statements::STATEMENT_OF_LINES
        } else {
            statements::STATEMENT_KEPT
        };
        let row = sqlx::query(statement).bind(customer).fetch_optional(self.timed.here()).await?;
        let amount = row.map_or(Ok(None), |row| row.try_get::<Option<i64>, _>(1))?.unwrap_or(0);
        Ok(Item { id: customer, text: "statement".to_owned(), amount })
    }

    /// The wish list of a customer.
    pub async fn wishes(&self, customer: i64) -> Result<Vec<Item>, sqlx::Error> {
        let rows = sqlx::query(statements::WISHES).bind(customer).fetch_all(self.timed.here()).await?;
        rows.iter().map(|row| Ok(Item { id: row.try_get(0)?, text: row.try_get(1)?, amount: 0 })).collect()
    }

    /// Adds to the wish list of a customer.
    pub async fn add_wish(&self, customer: i64, product: i64) -> Result<(), sqlx::Error> {
        sqlx::query(statements::WISH_ADD).bind(customer).bind(product).bind("now").execute(self.timed.here()).await?;
        Ok(())
    }

    /// The messages of a customer.
    pub async fn messages(&self, customer: i64) -> Result<Vec<Item>, sqlx::Error> {
        let rows = sqlx::query(statements::MESSAGES).bind(customer).fetch_all(self.timed.here()).await?;
        rows.iter().map(|row| Ok(Item { id: customer, text: row.try_get(0)?, amount: 0 })).collect()
    }

    /// Stores a review.
    pub async fn add_review(&self, product: i64, author: i64, stars: i64) -> Result<(), sqlx::Error> {
        sqlx::query(statements::REVIEW_ADD).bind(product).bind(author).bind(stars).execute(self.timed.here()).await?;
        Ok(())
    }

    /// Renames a customer.
    pub async fn set_profile(&self, customer: i64, name: &str) -> Result<(), sqlx::Error> {
        sqlx::query(statements::PROFILE_SET).bind(customer).bind(name).execute(self.timed.here()).await?;
        Ok(())
    }

    /// Takes a return.
    pub async fn add_return(&self, customer: i64, reason: &str) -> Result<(), sqlx::Error> {
        sqlx::query(statements::RETURN_ADD).bind(customer).bind(reason).execute(self.timed.here()).await?;
        Ok(())
    }

    /// Subscribes to the newsletter.
    pub async fn subscribe(&self, customer: i64) -> Result<(), sqlx::Error> {
        sqlx::query(statements::SUBSCRIBE).bind(customer).execute(self.timed.here()).await?;
        Ok(())
    }
}

fn item(row: &sqlx::sqlite::SqliteRow) -> Result<Item, sqlx::Error> {
    Ok(Item { id: row.try_get(0)?, text: row.try_get(1)?, amount: row.try_get(2)? })
}

async fn connect(file: &Path, connections: u32) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // The shop's data are made up; a power cut may take them.
        .synchronous(SqliteSynchronous::Off)
        // Gemba times every statement; sqlx need not warn of the long one that fills the tables.
        .disable_statement_logging();
    SqlitePoolOptions::new().min_connections(connections).max_connections(connections).connect_with(options).await
}
