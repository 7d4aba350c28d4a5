//! The SQL of the shop: every statement it runs, in one place, so that a plant can name the one it spoils.

/// What the shop shows first.
pub const POPULAR: &str = "SELECT id, name, price_cents FROM products ORDER BY popularity DESC LIMIT 12";
/// Search by the beginning of a name.
pub const SEARCH: &str =
    "SELECT id, name, price_cents FROM products WHERE name >= ?1 AND name < ?2 ORDER BY name LIMIT 24";
/// One category, best rated first.
pub const LISTING: &str =
    "SELECT product, name, rating FROM listings WHERE category = ?1 ORDER BY rating DESC, product LIMIT 24";
/// One product.
pub const PRODUCT: &str = "SELECT id, name, category, price_cents FROM products WHERE id = ?1";
/// The rating of a product from every vote.
pub const RATING_OF_VOTES: &str = "SELECT count(*), avg(stars), avg(stars * stars) FROM votes WHERE product = ?1";
/// The rating of a product as kept.
pub const RATING_KEPT: &str = "SELECT votes, stars FROM ratings WHERE product = ?1";
/// The newest reviews of a product.
pub const REVIEWS: &str = "SELECT id, author, stars FROM reviews WHERE product = ?1 ORDER BY id DESC LIMIT 24";
/// The same with their authors.
pub const REVIEWS_WITH_AUTHORS: &str = "SELECT r.id, r.stars, a.name FROM reviews r JOIN authors a ON a.id = r.author WHERE r.product = ?1 ORDER BY r.id DESC LIMIT 24";
/// One author.
pub const REVIEW_AUTHOR: &str = "SELECT name FROM authors WHERE id = ?1";
/// Puts a product into a cart.
pub const CART_ADD: &str = "INSERT INTO carts (session, product, quantity) VALUES (?1, ?2, 1)";
/// What is in a cart.
pub const CART: &str = "SELECT product, quantity FROM carts WHERE session = ?1";
/// The same with the products.
pub const CART_WITH_PRODUCTS: &str = "SELECT c.product, c.quantity, p.name, p.price_cents FROM carts c JOIN products p ON p.id = c.product WHERE c.session = ?1";
/// One product of a cart.
pub const CART_PRODUCT: &str = "SELECT name, price_cents FROM products WHERE id = ?1";
/// Whether a voucher is good.
pub const VOUCHER: &str = "SELECT percent FROM vouchers WHERE code = ?1";
/// Places an order.
pub const ORDER_ADD: &str = "INSERT INTO orders (customer, total_cents) VALUES (?1, ?2)";
/// The newest orders of a customer.
pub const ORDERS: &str = "SELECT id, total_cents FROM orders WHERE customer = ?1 ORDER BY id DESC LIMIT 40";
/// The lines of one order.
pub const ORDER_LINES: &str = "SELECT product, quantity FROM order_lines WHERE order_id = ?1";
/// The newest orders of a customer with their lines.
pub const ORDERS_WITH_LINES: &str = "SELECT o.id, o.total_cents, l.product, l.quantity FROM (SELECT id, total_cents FROM orders WHERE customer = ?1 ORDER BY id DESC LIMIT 40) o JOIN order_lines l ON l.order_id = o.id";
/// A customer's account from every line ever.
pub const STATEMENT_OF_LINES: &str =
    "SELECT count(*), sum(amount_cents), avg(amount_cents) FROM statement_lines WHERE customer = ?1";
/// A customer's account as kept.
pub const STATEMENT_KEPT: &str = "SELECT lines, amount_cents FROM statements WHERE customer = ?1";
/// The wish list of a customer.
pub const WISHES: &str = "SELECT product, noted FROM wishes WHERE customer = ?1 ORDER BY id DESC LIMIT 20";
/// Adds a wish.
pub const WISH_ADD: &str = "INSERT INTO wishes (customer, product, noted) VALUES (?1, ?2, ?3)";
/// The messages of a customer.
pub const MESSAGES: &str = "SELECT subject, body FROM messages WHERE customer = ?1 ORDER BY id DESC LIMIT 20";
/// Adds a review.
pub const REVIEW_ADD: &str = "INSERT INTO reviews (product, author, stars) VALUES (?1, ?2, ?3)";
/// Changes a profile.
pub const PROFILE_SET: &str = "UPDATE authors SET name = ?2 WHERE id = ?1";
/// Takes a return.
pub const RETURN_ADD: &str = "INSERT INTO returns (customer, reason) VALUES (?1, ?2)";
/// Subscribes to the newsletter.
pub const SUBSCRIBE: &str = "INSERT INTO subscriptions (customer) VALUES (?1)";
