//! An attempt that begins with one request and ends with another.
//!
//! People give up between two pages, where no code runs. So the attempt leaves the first request as a ticket, travels
//! with the form, and is completed by the second. A ticket that never comes back is an attempt left open, which counts
//! as unfinished after half an hour.

use gemba::{Attempt, Ticket};

/// `GET /review`: shows the form with the ticket in a hidden field.
fn show_form() -> String {
    let attempt = gemba::attempt!("review.write");
    attempt.detach().to_string()
}

/// `POST /review`: the form came back.
fn save(hidden_field: &str) -> Result<(), gemba::TicketError> {
    let ticket: Ticket = hidden_field.parse()?;
    Attempt::resume(&ticket)?.complete();
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _gemba = gemba::init!("across_requests")?;
    let hidden_field = gemba::scope().user("ann").session("session-1").run(show_form);
    // Minutes later, perhaps in another process behind the load balancer:
    gemba::scope().user("ann").session("session-1").run(|| save(&hidden_field))?;
    Ok(())
}
